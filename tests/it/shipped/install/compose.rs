//! `config/examples/docker-compose.yaml`.

use outrigger::config::{Config, ListenAddress};

use super::tools::{good, longest_drain, seconds, skipped, tool, yaml};
use crate::support::binary::{Binary, Builder};
use crate::support::upstream::Upstream;

const FILE: &str = "config/examples/docker-compose.yaml";

#[test]
fn compose_knows_every_key() {
    if skipped() {
        return;
    }
    good(tool("check-jsonschema").args(["--builtin-schema", "vendor.compose-spec", FILE]));
}

#[test]
fn the_parts_of_the_compose_file_fit_each_other() {
    if skipped() {
        return;
    }
    let file = yaml(FILE);
    let service = &file["services"]["outrigger"];
    let words = |value: &serde_json::Value| {
        Vec::from_iter(value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()))
    };
    assert_eq!(service["image"], format!("outrigger:{}", env!("CARGO_PKG_VERSION")));

    // The configuration is a good one, and lies where the command looks for it.
    let text = file["configs"]["outrigger"]["content"].as_str().unwrap();
    assert!(!text.replace("$$", "").contains('$'), "Compose takes that for a variable:\n{text}");
    let config = Config::from_yaml(&text.replace("$$", "$")).unwrap_or_else(|errors| panic!("{errors}"));
    let command = words(&service["command"]);
    assert_eq!(command[..2], ["run", "--config"]);
    assert_eq!(service["configs"][0]["source"], "outrigger");
    assert_eq!(service["configs"][0]["target"], command[2]);

    // What is published is where it listens; what it dials is where the server listens, and that is published nowhere.
    let published = words(&service["ports"]);
    assert_eq!(published.len(), 1);
    let ListenAddress::Tcp(address) = config.listen.address else { panic!("a port is published") };
    assert_eq!(published[0].rsplit(':').next().unwrap(), address.port().to_string());
    assert!(address.ip().is_unspecified(), "others than the container itself connect");
    let app = &file["services"]["app"];
    assert!(app.get("ports").is_none(), "nobody goes past the proxy");
    let port = &words(&app["expose"])[0];
    assert!(text.contains(&format!("url: http://app:{port}\n")), "{text}");

    // It is stopped before the server, and has the time that takes.
    assert_eq!(words(&service["depends_on"]), ["app"]);
    let time = seconds(service["stop_grace_period"].as_str().unwrap());
    assert!(time > longest_drain(&config), "{time:?} is too short for {:?}", config.drain);
    let descriptors = service["ulimits"]["nofile"].as_u64().unwrap();
    assert!(descriptors > 2 * 10_000 + config.listen.max_handshakes as u64);
}

#[tokio::test]
async fn the_health_check_of_the_compose_file_is_a_command_of_the_image() {
    if skipped() {
        return;
    }
    let file = yaml(FILE);
    let test = &file["services"]["outrigger"]["healthcheck"]["test"];
    let words = Vec::from_iter(test.as_array().unwrap().iter().map(|word| word.as_str().unwrap()));
    // The image has no shell that CMD-SHELL would want, and this as its program (tests/it/shipped/image.rs).
    assert_eq!(words[..2], ["CMD", "/outrigger"]);
    let upstream = Upstream::echo().await;
    let running = Binary::run(&upstream.url(), &[]).await;
    let output = Builder::new(&words[2..]).args(&["--admin", &running.admin_url()]).output().await;
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "ready\n"), "{}", output.stderr);
}
