//! Files in `tests/config`: the good ones load, of the bad ones each states what is told.

use std::fs;
use std::sync::Arc;

use super::*;

/// Asserted, so that a folder that was moved or emptied is noticed.
const GOOD: usize = 7;
const BAD: usize = 29;
const EXAMPLES: usize = 6;

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(project(folder)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn file(path: PathBuf) -> Sources {
    Sources { file: Some(path), ..Sources::default() }
}

#[test]
fn good_files_load_and_so_does_what_they_come_to() {
    let files = files("tests/config/good");
    assert_eq!(files.len(), GOOD);
    for path in files {
        let name = path.display().to_string();
        let mut config = load(file(path.clone())).unwrap_or_else(|errors| panic!("{errors}"));
        let text = effective(&file(path)).unwrap();
        let mut again = Config::from_yaml(&text).unwrap_or_else(|errors| panic!("{name}: {errors}\n{text}"));
        // The token is masked, and so are queries of URLs that are asked.
        assert_eq!(config.admin.token.take().is_some(), again.admin.token.take().is_some(), "{name}");
        cut_queries(&mut config);
        cut_queries(&mut again);
        assert_eq!(config, again, "{name}\n{text}");
    }
}

/// Leaves of the URLs that are asked what comes before the query, and its mark.
fn cut_queries(config: &mut Config) {
    for route in &mut config.routes {
        let url = match &mut Arc::make_mut(&mut route.policy).auth {
            Some(Auth::Forward(forward)) => &mut forward.url,
            Some(Auth::Jwt(Jwt { keys: JwtKeys::JwksUrl { url, .. }, .. })) => url,
            _ => continue,
        };
        if let Some(at) = url.find('?') {
            url.truncate(at + 1);
        }
    }
}

/// Whoever runs one gives it ports: a command line, a manifest, a chart.
#[test]
fn examples_for_frameworks_load_and_leave_ports_alone() {
    let files = examples();
    assert_eq!(files.len(), EXAMPLES);
    for path in files {
        let name = path.display().to_string();
        let config = load(file(path.clone())).unwrap_or_else(|errors| panic!("{errors}"));
        let (listen, admin) = (Config::default().listen, Config::default().admin);
        assert_eq!(config.listen.address, listen.address, "{name}");
        assert_eq!((config.admin.address, config.admin.probe_address), (admin.address, None), "{name}");
        for route in &config.routes {
            let target = format!("{:?}", route.upstream.target);
            assert!(target.contains("127.0.0.1"), "{name}: the server is next door, not {target}");
        }
        // For a cluster, and together as the proxy wants it.
        assert!(!config.drain.delay.is_zero(), "{name}");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!("config/examples/{}", path.file_name().unwrap().display())), "{name}");
    }
}

/// Each line `# expect: LINE:COLUMN KEY | words` is one problem and a part of what is told of it.
#[test]
fn bad_files_tell_every_problem_with_its_place_and_what_is_accepted() {
    let files = files("tests/config/bad");
    assert_eq!(files.len(), BAD);
    let mut unlike = String::new();
    for path in files {
        let name = path.display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("# expect: "));
        let mut expected: Vec<(&str, &str)> = lines.map(|line| line.split_once(" | ").expect(line)).collect();
        assert!(!expected.is_empty(), "{name} expects nothing");

        let Err(errors) = load(file(path)) else { panic!("{name} was accepted") };
        assert!(!errors.to_string().contains("hunter2"), "{errors}");
        for error in errors.iter().map(ToString::to_string) {
            let at = error.lines().next().unwrap_or_default();
            let at = at.strip_prefix(&format!("{name}:")).unwrap_or(at).replacen(": ", " ", 1);
            let fit =
                expected.iter().position(|(location, words)| location.trim() == at && error.contains(words));
            match fit {
                Some(fit) => drop(expected.remove(fit)),
                None => unlike.push_str(&format!("not expected: {error}\n")),
            }
        }
        for (location, words) in expected {
            unlike.push_str(&format!("not told: {name}: {location} | {words}\n"));
        }
    }
    assert!(unlike.is_empty(), "\n{unlike}");
}
