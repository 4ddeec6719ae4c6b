//! The Debian package, as `[package.metadata.deb]` describes it to cargo-deb.

use std::process::Command;

use outrigger::config::Config;
use serde_json::Value;

use super::tools::{folder, good, read, root};

fn metadata() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--locked", "--quiet"]);
    let told: Value = serde_json::from_str(&good(cargo.current_dir(root()))).unwrap();
    told["packages"][0]["metadata"]["deb"].clone()
}

/// Source, destination and mode of each file, patterns left as they are.
fn assets(deb: &Value) -> Vec<[String; 3]> {
    let texts = |asset: &Value| [0, 1, 2].map(|index| asset[index].as_str().unwrap().to_owned());
    deb["assets"].as_array().unwrap().iter().map(texts).collect()
}

#[test]
fn every_file_of_the_package_is_there_and_goes_where_the_unit_looks() {
    let deb = metadata();
    let assets = assets(&deb);
    // What the program prints is made when the package is, into a folder of builds.
    let printed = folder("printed");
    let script = root().join("scripts/release/extras.sh");
    good(Command::new(script).arg(env!("CARGO_BIN_EXE_outrigger")).arg(&printed));
    let at = |source: &str| match source.strip_prefix("target/extras/") {
        Some(rest) => printed.join(rest),
        None => root().join(source),
    };
    for [source, to, mode] in &assets {
        assert!(!to.starts_with('/'), "{to}");
        if source == "target/release/outrigger" {
            assert_eq!((to.as_str(), mode.as_str()), ("usr/bin/", "755"));
            continue;
        }
        assert_eq!(mode, "644", "{source}");
        match source.split_once('*') {
            None => assert!(at(source).is_file(), "{source} is not there"),
            Some((folder, ending)) => {
                assert!(to.ends_with('/'), "several files go into a folder: {to}");
                let files = std::fs::read_dir(at(folder)).unwrap();
                let fits = |name: &str| name.ends_with(ending);
                assert!(
                    files.filter(|file| fits(file.as_ref().unwrap().file_name().to_str().unwrap())).count()
                        > 0
                );
            }
        }
    }
    // The unit is found in the folder that is named, and starts what the package brings.
    let units = deb["systemd-units"]["unit-scripts"].as_str().unwrap();
    let unit = read(&format!("{units}/outrigger.service"));
    let to = Vec::from_iter(assets.iter().map(|[source, to, _]| match to.ends_with('/') {
        true => format!("/{to}{}", source.rsplit('/').next().unwrap()),
        false => format!("/{to}"),
    }));
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    for path in start.split(' ').filter(|word| word.starts_with('/')) {
        assert!(to.iter().any(|to| to == path), "{path} is not in the package: {to:?}");
    }
    // cargo-deb writes scripts for the unit only where it knows of a folder for scripts.
    assert!(root().join(deb["maintainer-scripts"].as_str().unwrap()).is_dir());
}

#[test]
fn a_fresh_package_changes_nothing_until_its_operator_says_so() {
    let deb = metadata();
    let units = &deb["systemd-units"];
    assert_eq!((&units["enable"], &units["start"]), (&Value::Bool(false), &Value::Bool(false)));
    assert_eq!(units["restart-after-upgrade"], true);
    // In /etc, so dpkg keeps what was changed there; for everybody to read, since the service's user owns nothing.
    let assets = assets(&deb);
    let [source, to, mode] = assets.iter().find(|[_, to, _]| to.starts_with("etc/")).unwrap();
    assert_eq!((to.as_str(), mode.as_str()), ("etc/outrigger/outrigger.yaml", "644"));
    let config = Config::from_yaml(&read(source)).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.admin.address, Config::default().admin.address, "operators are on loopback");
    // What it says of other files is so.
    let text = read(source);
    let paths = Vec::from_iter(text.split([' ', '=', '\n']).filter(|word| word.starts_with("/usr/share/")));
    assert!(paths.len() > 1, "{paths:?}");
    for path in paths {
        let (folder, name) = path.trim_start_matches('/').rsplit_once('/').unwrap();
        assert!(
            assets.iter().any(|[source, to, _]| *to == format!("{folder}/") && source.ends_with(name)),
            "{path} is not in the package"
        );
    }
}
