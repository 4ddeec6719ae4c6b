//! The ways to install it: the service, the Compose file, the package, the workflows and the steps of a release are held
//! to the program, to one another, and to what reads them.
//!
//! systemd, the schemas of Compose and GitHub, and linters are asked with `OUTRIGGER_INTEROP=1` only, as `make test` sets
//! it after `scripts/setup-tests.sh`; without it those tests say on standard error that they were skipped, and pass.

mod compose;
mod package;
mod scripts;
mod tools;
mod unit;
mod workflows;

use crate::support::binary::{Binary, Builder};
use crate::support::upstream::Upstream;

#[tokio::test]
async fn health_is_told_by_exit_code_for_checks_that_run_a_command() {
    let upstream = Upstream::echo().await;
    let mut running = Binary::run(&upstream.url(), &[]).await;
    let admin = running.admin_url();
    let ask = async |args: &[&str], admin: &str| {
        let output = Builder::new(&["health"]).args(args).args(&["--admin", admin]).output().await;
        (output.code.unwrap(), output.stdout, output.stderr)
    };
    assert_eq!(ask(&[], &admin).await, (0, "ok\n".into(), String::new()));
    assert_eq!(ask(&["--ready"], &admin).await, (0, "ready\n".into(), String::new()));

    // It was drained, and stays: it is well, and nobody should be sent there.
    let drained = Builder::new(&["drain", "--wait", "--admin", &admin]).output().await;
    assert_eq!(drained.stdout, "drained\n");
    assert_eq!(ask(&[], &admin).await.0, 0);
    let (code, said, why) = ask(&["--ready"], &admin).await;
    assert_eq!((code, said.as_str()), (1, ""));
    let host = admin.trim_start_matches("http://");
    assert!(why.starts_with(&format!("outrigger: {host} is not ready: drained")), "{why}");

    // Somebody else's 200 is no health of ours, and nobody's is none either.
    let (code, said, why) = ask(&[], &upstream.url()).await;
    assert_eq!((code, said.as_str()), (1, ""));
    assert!(why.contains("not as Outrigger's admin port does"), "{why}");
    running.binary.signal("TERM").await;
    running.binary.exited().await;
    let (code, said, why) = ask(&[], &admin).await;
    assert_eq!((code, said.as_str()), (1, ""));
    assert!(why.contains("nothing answers at"), "{why}");
}
