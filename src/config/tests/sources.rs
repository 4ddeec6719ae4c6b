//! Layers: which source wins, and how each is named when it is wrong.

use super::*;

fn fallback(sources: Sources) -> Route {
    let config = load(sources).unwrap_or_else(|errors| panic!("{errors}"));
    config.routes.last().unwrap().clone()
}

/// `yaml` in a file of its own, which is gone with the guard.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, yaml: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("outrigger-{name}-{}.yaml", std::process::id()));
        std::fs::write(&path, yaml).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn flags_cover_the_environment_which_covers_the_file_which_covers_the_defaults() {
    let file = TempFile::new(
        "layers",
        b"upstream: { url: 'http://file', max_dials: 7, keep_alive: 3s }\nadmin: { address: '127.0.0.1:1' }",
    );
    let mut sources = from_env(&[
        ("OUTRIGGER__UPSTREAM__URL", "http://env"),
        ("OUTRIGGER__UPSTREAM__MAX_DIALS", "8"),
        ("OUTRIGGER__LISTEN__ADDRESS", "127.0.0.1:2"),
    ]);
    sources.file = Some(file.0.clone());
    sources.upstream = Some("http://flag:5".into());
    sources.listen = Some("127.0.0.1:3".into());
    sources.admin = Some("127.0.0.1:4".into());
    let config = load(sources).unwrap();
    let upstream = &config.routes[0].upstream;
    assert_eq!(upstream.target, Target::Tcp { host: "flag".into(), port: 5 });
    assert_eq!((upstream.max_dials, upstream.keep_alive), (8, Duration::from_secs(3)));
    assert_eq!(config.listen.address, ListenAddress::Tcp("127.0.0.1:3".parse().unwrap()));
    assert_eq!(config.admin.address, "127.0.0.1:4".parse().unwrap());
}

#[test]
fn environment_variables_reach_any_depth_in_any_case_and_other_names_are_left_alone() {
    let route = fallback(from_env(&[
        ("OUTRIGGER__POLICY__DELIVERY__MAX_LAG__BYTES", "2MiB"),
        ("outrigger__policy__Max_Frame", "3MiB"),
        ("OUTRIGGER_PORT", "tcp://10.0.0.1:80"),
        ("OUTRIGGER_POLICY__MAX_FRAME", "nonsense"),
        ("PATH", "/bin"),
    ]));
    assert_eq!((route.policy.delivery.max_lag.bytes, route.policy.max_frame), (2 << 20, 3 << 20));
}

#[test]
fn lists_and_maps_are_yaml_in_the_environment_and_deeper_variables_come_on_top() {
    let config = load(from_env(&[
        ("OUTRIGGER__POLICY__HEARTBEAT__TIMEOUT", "2s"),
        ("OUTRIGGER__POLICY", "{ heartbeat: { interval: 4s, timeout: 3s }, idle_timeout: null }"),
        ("OUTRIGGER__ROUTES", "- path: /ws\n  hosts: [a.example]\n- path: /b"),
        ("OUTRIGGER__LISTEN__ADDRESS", "[::]:8080"),
        ("OUTRIGGER__ADMIN__TOKEN", "{not: yaml}".trim_end_matches('}').replace(' ', "").as_str()),
    ]))
    .unwrap();
    assert_eq!(config.listen.address, ListenAddress::Tcp("[::]:8080".parse().unwrap()));
    assert!(config.admin.token.is_some_and(|token| token.matches(b"{not:yaml")));
    let [ws, _, fallback] = config.routes.as_slice() else { panic!("{:?}", config.routes) };
    assert_eq!(ws.hosts, ["a.example"]);
    assert_eq!(fallback.policy.idle_timeout, None);
    let timing = fallback.policy.heartbeat.unwrap().timing;
    assert_eq!((timing.interval, timing.timeout), (Duration::from_secs(4), Duration::from_secs(2)));
}

#[test]
fn null_in_the_environment_switches_off_what_the_file_switched_on() {
    let file = TempFile::new("null", b"policy: { heartbeat: { interval: 1s }, idle_timeout: 3m }");
    for (map, scalar) in [("null", "null"), ("~", "~"), ("off", "0s"), (" null # yes", "NULL")] {
        let mut sources =
            from_env(&[("OUTRIGGER__POLICY__HEARTBEAT", map), ("OUTRIGGER__POLICY__IDLE_TIMEOUT", scalar)]);
        sources.file = Some(file.0.clone());
        let policy = fallback(sources).policy;
        assert_eq!((policy.heartbeat, policy.idle_timeout), (None, None), "{map:?}");
    }
}

/// What is left of a file that was empty and began with a byte order mark, say.
#[test]
fn a_variable_without_a_value_in_it_is_refused_and_switches_no_guard_off() {
    let file =
        TempFile::new("no-value", b"policy: { auth: { forward: { url: 'http://127.0.0.1:1/auth' } } }");
    for nothing in ["\u{feff}", "\u{feff}# none", "...", "# none\n...", "---"] {
        let mut sources = from_env(&[("OUTRIGGER__POLICY__AUTH", nothing)]);
        sources.file = Some(file.0.clone());
        let told = told(load(sources));
        assert!(
            told.contains("OUTRIGGER__POLICY__AUTH") && told.contains("found:    a word"),
            "{nothing:?}: {told}"
        );
    }
}

/// What an unset `${X}` in a compose file comes to.
#[test]
fn an_empty_variable_switches_no_guard_off() {
    let file = TempFile::new(
        "empty",
        b"admin: { token: t, hosts: [ops.example] }
trusted_proxies: [loopback]
policy:
  origins: ['https://app.example.com']
  auth: { forward: { url: 'http://127.0.0.1:1/auth' } }
  limits: { per_ip: 5, message_rate: { rate: 1/s, burst: 2 } }
  handshake_rate: { per_ip: { rate: 1/s, burst: 2 }, global: { rate: 3/s, burst: 4 } }
  http: { mode: guard, max_body: 9 }
  idle_timeout: 3m
  breaker: { open_for: 9s }
routes: [{ path: /ws, hosts: [a.example] }]
",
    );
    let read = |env: &[(&str, &str)]| {
        let sources = Sources { file: Some(file.0.clone()), ..from_env(env) };
        load(sources).unwrap_or_else(|errors| panic!("{env:?}: {errors}"))
    };
    let as_written = read(&[]);
    for key in [
        "ADMIN__TOKEN",
        "ADMIN__HOSTS",
        "ADMIN",
        "TRUSTED_PROXIES",
        "POLICY",
        "POLICY__ORIGINS",
        "POLICY__AUTH",
        "POLICY__AUTH__FORWARD",
        "POLICY__AUTH__FORWARD__URL",
        "POLICY__LIMITS",
        "POLICY__LIMITS__PER_IP",
        "POLICY__LIMITS__MESSAGE_RATE",
        "POLICY__HANDSHAKE_RATE__PER_IP",
        "POLICY__HANDSHAKE_RATE__GLOBAL",
        "POLICY__HANDSHAKE_RATE",
        "POLICY__HTTP__MODE",
        "POLICY__HTTP__MAX_BODY",
        "POLICY__IDLE_TIMEOUT",
        "POLICY__BREAKER",
        "ROUTES",
        "LISTEN__ADDRESS",
        "UPSTREAM__URL",
    ] {
        let name = format!("OUTRIGGER__{key}");
        for empty in ["", " ", "\t\n", "# a comment"] {
            let is_map = probe_is_nested(key);
            if empty.starts_with('#') && !is_map {
                continue;
            }
            assert!(read(&[(&name, empty)]) == as_written, "{name}={empty:?} changes something");
        }
    }
    // Inside of a map there is no telling what was meant.
    for (name, map) in [
        ("OUTRIGGER__POLICY", "{ auth: }"),
        ("OUTRIGGER__POLICY", "{ origins: , idle_timeout: 1s }"),
        ("OUTRIGGER__ADMIN", "{ token: }"),
        ("OUTRIGGER__POLICY__LIMITS", "{ per_ip: }"),
    ] {
        let sources = Sources { file: Some(file.0.clone()), ..from_env(&[(name, map)]) };
        let told = told(load(sources));
        assert!(told.contains(name), "{name}={map}: {told}");
    }
}

fn probe_is_nested(key: &str) -> bool {
    let path: Vec<String> = key.to_ascii_lowercase().split("__").map(str::to_owned).collect();
    shape::shape_at::<RawConfig>(&path).is_some_and(|shape| shape != shape::Shape::Text)
}

#[test]
fn the_listen_flag_takes_an_address_or_a_socket_whatever_the_file_says() {
    for (file, flag, expected) in [
        ("{ unix: /a.sock }", "127.0.0.1:3", ListenAddress::Tcp("127.0.0.1:3".parse().unwrap())),
        ("{ address: '127.0.0.1:1' }", "unix:/b.sock", ListenAddress::Unix("/b.sock".into())),
    ] {
        let file = TempFile::new("listen", format!("listen: {file}").as_bytes());
        let path = Some(file.0.clone());
        let sources = Sources { file: path, listen: Some(flag.into()), ..Sources::default() };
        assert_eq!(load(sources).unwrap().listen.address, expected);
    }
    for switch in ["off", "'false'", "OFF", "no"] {
        let told = told(Config::from_yaml(&format!("listen: {{ unix: {switch} }}")));
        assert!(told.contains("listen.unix") && told.contains("null is none"), "{switch}: {told}");
    }
    let config = Config::from_yaml("listen: { unix: /a.sock }").unwrap();
    assert_eq!(config.listen.address, ListenAddress::Unix("/a.sock".into()));
}

#[test]
fn each_problem_names_the_source_whose_value_counts() {
    let file = TempFile::new("names", b"policy:\n  max_frame: x\n  close_timeout: y\n");
    let mut sources = from_env(&[
        ("OUTRIGGER__POLICY__MAX_FRAME", "z"),
        ("OUTRIGGER__POLCY__MAX_FRAME", "1KiB"),
        ("OUTRIGGER__ROUTES", "[{ path: /a, polcy: {} }"),
    ]);
    sources.env.pop();
    sources.file = Some(file.0.clone());
    sources.listen = Some("localhost".into());
    sources.upstream = Some("app:80".into());
    sources.admin = Some("0.0.0.0:9".into());
    let told = told(load(sources));
    let name = file.0.display();
    for line in [
        format!("{name}:3:18: policy.close_timeout"),
        "environment variable OUTRIGGER__POLICY__MAX_FRAME: policy.max_frame".into(),
        "environment variable OUTRIGGER__POLCY__MAX_FRAME: polcy".into(),
        "flag --listen: listen.address".into(),
        "flag --upstream: upstream.url".into(),
        "flag --admin: admin.address".into(),
    ] {
        assert!(told.lines().any(|told| told == line), "{line}: {told}");
    }
    assert!(told.starts_with("6 problems") && told.contains("did you mean `policy`"), "{told}");
}

#[test]
fn environment_variables_that_are_wrong_are_told_by_name() {
    for (pairs, words) in [
        (&[("OUTRIGGER__ROUTES", "[{ path: /a }")][..], "OUTRIGGER__ROUTES: routes\n  not valid YAML"),
        (&[("OUTRIGGER__ROUTES", "{ path: /a }")], "OUTRIGGER__ROUTES: routes\n  found:    a map"),
        (&[("OUTRIGGER__ROUTES", "/a")], "OUTRIGGER__ROUTES: routes\n  found:    a word"),
        (&[("OUTRIGGER__ROUTES", "null")], "OUTRIGGER__ROUTES: routes\n  found:    null"),
        (&[("OUTRIGGER__ROUTES__0__PATH", "/a")], "OUTRIGGER__ROUTES__0__PATH: routes\n  found:    a map"),
        (
            &[("OUTRIGGER__POLICY", "{ max_frame: 1, max_frame: 2 }")],
            "OUTRIGGER__POLICY: policy.max_frame\n  this key is given twice",
        ),
        (&[("OUTRIGGER__", "x")], "environment variable OUTRIGGER__\n  unknown key"),
        (&[("OUTRIGGER__A____B", "x")], "environment variable OUTRIGGER__A____B\n  unknown key"),
        (
            &[("OUTRIGGER__DRAIN__SPRED", "5s")],
            "OUTRIGGER__DRAIN__SPRED: drain.spred\n  unknown key; did you mean `spread`?",
        ),
        (
            &[("OUTRIGGER__DRAIN__DELAY", "1s"), ("OUTRIGGER__Drain__delay", "2s")],
            "OUTRIGGER__Drain__delay: drain.delay\n  this key is given twice",
        ),
    ] {
        let told = told(load(from_env(pairs)));
        assert!(told.starts_with("1 problem in") && told.contains(words), "{words}: {told}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_by_its_path() {
    let sources = |path: PathBuf| Sources { file: Some(path), ..Sources::default() };
    for path in ["/nonexistent/outrigger.yaml", "/"] {
        let told = told(load(sources(path.into())));
        // Not a line of it: none was read.
        assert!(told.contains(&format!("\n{path}\n  cannot be read: ")), "{told}");
    }
    let file = TempFile::new("latin", b"log: { level: \"\xe4\" }");
    assert!(told(load(sources(file.0.clone()))).contains("not UTF-8 after byte 15"));
    let file = TempFile::new("long", &vec![b'#'; 2 << 20]);
    assert!(told(load(sources(file.0.clone()))).contains("longer than"));
}

#[test]
fn one_word_stands_for_a_list_in_the_environment_and_in_a_file() {
    let private = |config: Config| config.trusted_proxies.contains(Some("10.1.2.3".parse().unwrap()));
    assert!(private(load(from_env(&[("OUTRIGGER__TRUSTED_PROXIES", "private")])).unwrap()));
    assert!(private(Config::from_yaml("trusted_proxies: private").unwrap()));
    let config = Config::from_yaml(
        "admin: { hosts: ops.example }\npolicy: { breaker: { statuses: 503 }, origins: 'https://app.example' }\n\
         routes: [{ path: /a, hosts: a.example, mode: broadcast, policy: { broadcast: { channel_key: query } } }]",
    )
    .unwrap();
    let route = &config.routes[0];
    assert_eq!(
        (config.admin.hosts.as_slice(), route.hosts.as_slice()),
        (&["ops.example".to_owned()][..], &["a.example".to_owned()][..])
    );
    assert_eq!(route.policy.breaker.as_ref().unwrap().statuses, [503]);
    assert_eq!(route.policy.broadcast.channel_key, [KeyPart::Query]);
    assert_eq!(route.policy.origins.as_ref().unwrap().allow.len(), 1);

    // What is wrong with it is told where it stands, whatever list lies below it.
    let file = TempFile::new("list", b"trusted_proxies: [private, loopback]");
    let sources =
        Sources { file: Some(file.0.clone()), ..from_env(&[("OUTRIGGER__TRUSTED_PROXIES", "privat")]) };
    let problems = told(load(sources));
    assert!(problems.contains("OUTRIGGER__TRUSTED_PROXIES: trusted_proxies"), "{problems}");
    assert!(problems.contains("\"privat\""), "{problems}");
    for yaml in ["trusted_proxies: ''", "policy: { origins: '' }", "policy: { breaker: { statuses: '' } }"] {
        assert!(told(Config::from_yaml(yaml)).contains("a list"), "{yaml}");
    }
}

#[test]
fn a_token_that_was_forgotten_or_meant_as_none_is_refused_and_not_taken_for_one() {
    let with = |token: &str| {
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let env = vec![
            variable("OUTRIGGER__ADMIN__TOKEN", token),
            variable("OUTRIGGER__ADMIN__ADDRESS", "0.0.0.0:9090"),
        ];
        load(Sources { env, ..Sources::default() })
    };
    for token in
        ["\"\"", "''", "\"", "off", "OFF", "false", "none", "'null'", "${ADMIN_TOKEN}", "{{.Values.token}}"]
    {
        let problems = with(token).unwrap_err().to_string();
        assert!(problems.contains("admin.token") && problems.contains("null is none"), "{token}: {problems}");
        assert!(!problems.contains(token) || token.len() < 5, "{problems}");
    }
    for token in ["offline", "s3cret", "a\"b", "\"quoted\"", "{not:yaml", "$x"] {
        assert!(with(token).is_ok(), "{token}");
    }
}
