//! `.github/workflows/`.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Map, Value};

use super::tools::{good, read, root, skipped, tool, yaml};

const FILES: [&str; 2] = [".github/workflows/ci.yml", ".github/workflows/release.yml"];

fn jobs(file: &Value) -> &Map<String, Value> {
    file["jobs"].as_object().unwrap()
}

fn steps(job: &Value) -> &Vec<Value> {
    job["steps"].as_array().unwrap()
}

#[test]
fn the_workflows_are_what_github_knows_and_give_nothing_away() {
    if skipped() {
        return;
    }
    good(tool("check-jsonschema").args(["--builtin-schema", "vendor.github-workflows"]).args(FILES));
    good(tool("zizmor").args(["--offline", "--no-progress"]).args(FILES));
}

#[test]
fn every_job_has_an_end_and_no_more_rights_than_it_uses() {
    if skipped() {
        return;
    }
    for name in FILES {
        let file = yaml(name);
        let rights =
            file["permissions"].as_object().unwrap_or_else(|| panic!("{name} has permissions at its top"));
        assert!(rights.values().all(|right| right == "read"), "{name}: {rights:?}");
        for (id, job) in jobs(&file) {
            assert!(job["timeout-minutes"].as_u64().is_some(), "{name}: {id}");
            for need in job.get("needs").into_iter().flat_map(|needs| match needs {
                Value::Array(needs) => needs.iter().collect(),
                one => vec![one],
            }) {
                assert!(jobs(&file).contains_key(need.as_str().unwrap()), "{name}: {id} waits for {need}");
            }
            for step in steps(job) {
                let Some(action) = step["uses"].as_str() else { continue };
                let (whose, commit) = action.split_once('@').unwrap();
                assert!(whose.starts_with("actions/"), "{action}: GitHub's own");
                assert!(
                    commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()),
                    "{action}"
                );
                // A person reads the tag; a tag can be moved, a commit cannot.
                let pinned = format!("{action} # v");
                assert!(read(name).contains(&pinned), "{action} does not say which version that is");
                if whose == "actions/checkout" {
                    assert_eq!(step["with"]["persist-credentials"], false, "{name}: {id}");
                }
            }
        }
    }
    // Only the image's jobs may push it, and only the last one makes a release.
    let release = yaml(FILES[1]);
    for (id, job) in jobs(&release) {
        let may = |right: &str| job["permissions"][right] == "write";
        assert_eq!(may("packages"), ["image", "publish"].contains(&id.as_str()), "{id}");
        for right in ["contents", "id-token", "attestations"] {
            assert_eq!(may(right), id == "publish", "{id}: {right}");
        }
    }
    assert_eq!(release["on"]["push"]["tags"][0], "v*");
}

#[test]
fn every_script_that_a_workflow_runs_is_there_and_every_script_of_a_release_is_run() {
    let mut run = BTreeSet::new();
    for name in FILES {
        let text = read(name);
        let words = text.split(|c: char| c.is_whitespace() || "()\"'".contains(c));
        run.extend(
            words.filter(|word| word.starts_with("scripts/") || *word == ".ci/run").map(str::to_owned),
        );
    }
    assert!(run.remove(".ci/run"), "{run:?}");
    // Named in the head of the file.
    run.retain(|path| path.ends_with(".sh"));
    for path in &run {
        let mode = std::fs::metadata(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(mode.permissions().mode() & 0o111, 0o111, "{path}");
    }
    let entries = std::fs::read_dir(root().join("scripts/release")).unwrap();
    let there = BTreeSet::from_iter(
        entries.map(|entry| format!("scripts/release/{}", entry.unwrap().file_name().to_str().unwrap())),
    );
    // Some are steps of others.
    let steps = Vec::from_iter(run.iter().map(|path| read(path)));
    let used = |path: &String| run.contains(path) || steps.iter().any(|text| text.contains(path.as_str()));
    let unused = Vec::from_iter(there.iter().filter(|path| !used(path)));
    assert!(unused.is_empty(), "{unused:?} are run by nobody");
}

#[test]
fn what_a_release_has_is_what_the_document_says() {
    if skipped() {
        return;
    }
    let release = yaml(FILES[1]);
    let matrix = release["jobs"]["binaries"]["strategy"]["matrix"]["include"].as_array().unwrap();
    let built = matrix.iter().map(|row| row["target"].as_str().unwrap().to_owned());
    let document = read("docs/install.md");
    // Names of files hold them too.
    let is_target = |word: &&str| word.contains("-unknown-linux-") && !word.contains("outrigger-");
    let named = document.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).filter(is_target);
    assert_eq!(
        built.collect::<BTreeSet<_>>(),
        named.map(str::to_owned).collect(),
        "left: built, right: docs/install.md"
    );
    for row in matrix {
        let (target, machine) = (row["target"].as_str().unwrap(), row["machine"].as_str().unwrap());
        assert_eq!(target.starts_with("aarch64-"), machine.ends_with("-arm"), "{target} on {machine}");
        assert_eq!(
            row["deb"].as_bool(),
            Some(target.ends_with("-gnu")),
            "packages are linked with glibc: {target}"
        );
    }
    let version = env!("CARGO_PKG_VERSION");
    for file in [
        "SHA256SUMS".to_owned(),
        format!("outrigger_{version}-1_amd64.deb"),
        format!("outrigger-{version}.cdx.json"),
    ] {
        assert!(document.contains(&file), "docs/install.md does not name {file}");
    }
    // The platforms of the image are those of the binaries.
    let image = release["jobs"]["image"]["strategy"]["matrix"]["include"].as_array().unwrap();
    let names = Vec::from_iter(image.iter().map(|row| row["architecture"].as_str().unwrap()));
    let text = read(FILES[1]);
    assert!(text.contains(&format!("image.sh join \"${{IMAGE,,}}\" {}", names.join(" "))), "{names:?}");
}
