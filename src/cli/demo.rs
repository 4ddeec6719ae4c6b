//! `outrigger demo`: the server of [`crate::demo`], the proxy in front of it, and instructions for both.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;

use super::runtime::run_on_workers;
use super::serving::serve;
use crate::admin::client::DEFAULT_ADMIN_URL;
use crate::config::Config;
use crate::connections::lifecycle::{Lifecycle, State};
use crate::demo;
use crate::server::Server;
use crate::telemetry::logging;

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Where to click
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Health and metrics
    #[arg(long, default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
}

pub(super) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    run_on_workers(workers, async |workers| {
        let app =
            TcpListener::bind(("127.0.0.1", 0)).await.context("cannot open a port for the demo server")?;
        let app_address = app.local_addr()?;
        let config = Config::from_yaml(&configuration(args, app_address))?;
        let logging = logging::init(&config.log)?;
        let server = Server::bind_on(config, workers).await?;
        let by_cargo = std::env::var_os("CARGO").is_some_and(|cargo| !cargo.is_empty());
        let own = command(by_cargo, std::env::current_exe().ok().as_deref(), is_on_path);
        let drain = drain_command(&own, server.admin_address());
        let app = tokio::spawn({
            let served = demo::serve(app, drain.clone(), std::future::pending::<()>());
            async move {
                if let Err(error) = served.await {
                    tracing::error!(%error, "the demo server cannot start anew on its port: start the demo again");
                }
            }
        });
        let lifecycle = server.lifecycle();
        let serving = serve(server, &logging, |server| {
            let words = words(app_address, server.listening_on(), server.admin_address(), &drain);
            io::stdout().write_all(words.as_bytes())
        });
        let (result, ()) = tokio::join!(serving, end_when_drained(&lifecycle, &own));
        app.abort();
        result
    })?
}

/// One server, and two ways to it: all paths are tunnels, but for those of sessions.
fn configuration(args: &DemoArgs, app: SocketAddr) -> String {
    format!(
        "listen: {{address: '{}'}}\nadmin: {{address: '{}'}}\nupstream: {{url: 'http://{app}'}}\n\
         log: {{format: text}}\ndrain: {{spread: 0s, timeout: 2s}}\n\
         routes: [{{name: session, path: '/session/{{*rest}}', mode: session, policy: {{notices: true, compression: deflate}}}}]\n",
        args.listen, args.admin
    )
}

/// What to open, and what to try.
fn words(app: SocketAddr, open: impl Display, admin: SocketAddr, drain: &str) -> String {
    format!(
        "An unmodified WebSocket server runs on {app}, outrigger before it.\n\n  \
         open     http://{open}/\n  metrics  http://{admin}/metrics\n  drain    {drain}\n  \
         kill     curl -X POST http://{open}/kill\n\n\
         Press \"Kill the server\" on the page, or call that: the server dies as in a crash, and starts anew 3 seconds\n\
         later. On the left a tunnel is cut and its page reconnects; on the right a session stays, and what is said\n\
         meanwhile is answered by the next server.\n\nCtrl-C stops it.\n\n"
    )
}

/// A proxy that was drained stays, since whoever supervises it is to end it. Nobody supervises a demo.
async fn end_when_drained(lifecycle: &Lifecycle, own: &str) {
    lifecycle.until(State::Drained).await;
    if !lifecycle.is_stopping() {
        // If standard output is closed nobody can be told.
        let _ = writeln!(
            io::stdout(),
            "\nDrained: every client was let go, and a supervisor would replace the proxy now. This demo has none and \
             ends; start it anew with\n\n  {own} demo\n"
        );
        lifecycle.request_stop();
    }
}

/// How this program is called from where one stands. `is_on_path`: whether its bare name finds it.
fn command(by_cargo: bool, executable: Option<&Path>, is_on_path: impl Fn(&Path) -> bool) -> String {
    let Some(path) = executable else { return "outrigger".to_owned() };
    if by_cargo {
        let is_release = path.parent().and_then(Path::file_name).is_some_and(|folder| folder == "release");
        return if is_release { "cargo run --release --" } else { "cargo run --" }.to_owned();
    }
    if is_on_path(path) {
        return "outrigger".to_owned();
    }
    let shown = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%".contains(c);
    // Quoted, so that a shell reads it as one word (POSIX, 2.2.2).
    if shown.chars().all(is_plain) { shown } else { format!("'{}'", shown.replace('\'', "'\\''")) }
}

/// Whether the command `outrigger` finds this very file.
fn is_on_path(executable: &Path) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let first =
        std::env::split_paths(&folders).map(|folder| folder.join("outrigger")).find(|path| path.is_file());
    first.is_some_and(|path| {
        matches!((path.canonicalize(), executable.canonicalize()), (Ok(found), Ok(own)) if found == own)
    })
}

fn drain_command(own: &str, admin: SocketAddr) -> String {
    let url = format!("http://{admin}");
    if url == DEFAULT_ADMIN_URL { format!("{own} drain") } else { format!("{own} drain --admin {url}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_one_that_works_from_where_one_stands() {
        let cases = [
            (true, Some("/src/target/release/outrigger"), false, "cargo run --release --"),
            (true, Some("/src/target/debug/outrigger"), false, "cargo run --"),
            (false, Some("/usr/bin/outrigger"), true, "outrigger"),
            (false, Some("/opt/outrigger"), false, "/opt/outrigger"),
            (false, Some("/my tools/out'rigger"), false, "'/my tools/out'\\''rigger'"),
            (false, None, true, "outrigger"),
        ];
        for (by_cargo, path, on_path, expected) in cases {
            assert_eq!(command(by_cargo, path.map(Path::new), |_| on_path), expected, "{path:?}");
        }
        let at = |admin: &str| drain_command("outrigger", admin.parse().unwrap());
        assert_eq!(at("127.0.0.1:9090"), "outrigger drain");
        assert_eq!(at("127.0.0.1:7"), "outrigger drain --admin http://127.0.0.1:7");
        assert_eq!(at("[::1]:7"), "outrigger drain --admin http://[::1]:7");
    }
}
