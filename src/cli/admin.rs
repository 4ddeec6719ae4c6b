//! `outrigger drain`, `channels`, `subscribers` and `publish`: commands that ask a running proxy's admin port.
//!
//! # Invariants
//! 1. All of them find the port and its token by the same options ([`AdminArgs`]).
//! 2. What comes from clients (names of channels and users) is shown escaped, also as JSON.
//!
//! # Not here
//! The requests and what can go wrong with them ([`crate::admin::client`]); tables ([`super::table`]).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{ArgGroup, Args};

use super::output::print;
use super::runtime::{run_on, runtime};
use super::table::{Column, table};
use crate::admin::client::{self, Client, Drain, ListFilter, Listing, Message, Payload};
use crate::admin::{Channel, Subscriber};
use crate::config::Secret;
use crate::telemetry::redact::escaped;

/// Longest message that is read; what the proxy takes is `admin.max_publish`.
const MAX_MESSAGE: u64 = 64 << 20;
/// Longest file with a token.
const MAX_TOKEN: u64 = 64 << 10;

/// Where the proxy's admin port is, and the token for it.
#[derive(Debug, Args)]
pub(super) struct AdminArgs {
    /// The proxy's admin port
    #[arg(long, value_name = "URL", default_value = client::DEFAULT_ADMIN_URL)]
    admin: String,
    /// File with the admin token, where one is set
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl AdminArgs {
    fn client(&self) -> anyhow::Result<Client> {
        let token = match &self.token_file {
            None => None,
            Some(path) => {
                let what = format!("the token file {}", path.display());
                let text = text(read(&mut open(path, &what)?, MAX_TOKEN, &what)?, &what, "")?;
                Some(Secret::new(text.trim().to_owned()))
            }
        };
        Ok(Client::new(&self.admin, token.as_ref())?)
    }
}

#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// Return only when the last client has gone
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(super) struct ChannelsArgs {
    /// Only those of this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Not more than so many, up to 10000 [default: 100]
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Print the answer of the admin port as it is, which is JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(super) struct SubscribersArgs {
    /// Only those of this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Only those of this channel, by its name in `outrigger channels`
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// Not more than so many, up to 10000 [default: 100]
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Print the answer of the admin port as it is, which is JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("message").required(true).args(["text", "file"])))]
pub(super) struct PublishArgs {
    /// The message; `-` reads it from standard input
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// Read the message from this file, every byte of it
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Send a binary message, not a text
    #[arg(long)]
    binary: bool,
    /// The route whose clients get it
    #[arg(long, value_name = "NAME")]
    route: String,
    /// Only those of this channel, by its name in `outrigger channels`
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// Only this user's
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Print the answer of the admin port as it is, which is JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn drain(args: &DrainArgs) -> anyhow::Result<()> {
    let client = args.admin.client()?;
    print(match run_on(runtime()?, client.drain(args.wait))? {
        Drain::Accepted { clients } => format!("draining, {clients} clients are connected\n"),
        Drain::Done => "drained\n".to_owned(),
    })
}

pub(super) fn channels(args: ChannelsArgs) -> anyhow::Result<()> {
    let client = args.admin.client()?;
    let filter = ListFilter { route: args.route, channel: None, limit: args.limit };
    let listing = run_on(runtime()?, client.channels(&filter))?;
    if args.json {
        return print_json(&listing.json);
    }
    let columns = [
        Column::text("ROUTE", |channel: &Channel| name(&channel.route)),
        Column::text("CHANNEL", |channel| name(&channel.channel)),
        Column::number("CLIENTS", |channel| channel.clients.to_string()),
        Column::text("SERVER", |channel| if channel.connected { "connected" } else { "away" }.to_owned()),
        Column::number("SEQUENCE", |channel| channel.sequence.to_string()),
        Column::text("EPOCH", |channel| name(&channel.epoch)),
    ];
    print_listing(&listing, "channels", &columns)
}

pub(super) fn subscribers(args: SubscribersArgs) -> anyhow::Result<()> {
    let client = args.admin.client()?;
    let filter = ListFilter { route: args.route, channel: args.channel, limit: args.limit };
    let listing = run_on(runtime()?, client.subscribers(&filter))?;
    if args.json {
        return print_json(&listing.json);
    }
    let columns = [
        Column::number("CONNECTION", |client: &Subscriber| client.connection.to_string()),
        Column::text("ROUTE", |client| name(&client.route)),
        Column::text("CHANNEL", |client| name(&client.channel)),
        Column::text("USER", |client| client.user.as_deref().map_or_else(|| "-".to_owned(), name)),
        Column::number("AGE", |client| format!("{}s", client.age_seconds)),
        Column::number("SENT", |client| client.sent.to_string()),
        Column::number("ACKNOWLEDGED", |client| {
            client.delivery_rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.0}%", rate * 100.0))
        }),
        Column::number("LAG", |client| client.lag.to_string()),
        Column::number("BUFFERED", |client| client.buffered_bytes.to_string()),
    ];
    print_listing(&listing, "subscribers", &columns)
}

pub(super) fn publish(args: PublishArgs) -> anyhow::Result<()> {
    let client = args.admin.client()?;
    let (bytes, what) = message(args.text.as_deref(), args.file.as_deref())?;
    let payload = if args.binary {
        Payload::Binary(bytes)
    } else {
        Payload::Text(text(bytes, &what, "; --binary sends bytes as they are")?)
    };
    let message = Message { route: args.route, channel: args.channel, user: args.user, payload };
    let (published, json) = run_on(runtime()?, client.publish(&message))?;
    if args.json {
        return print_json(&json);
    }
    let clients = match published.recipients {
        0 => "nobody: no client that it is for is connected".to_owned(),
        1 => "1 client".to_owned(),
        many => format!("{many} clients"),
    };
    let number =
        published.sequence.map_or_else(String::new, |number| format!(", as message {number} of its channel"));
    print(format!("published to {clients}{number}\n"))
}

/// The message, and what it is called where something is wrong with it.
fn message(text: Option<&str>, file: Option<&Path>) -> anyhow::Result<(Vec<u8>, String)> {
    let (mut from, what): (Box<dyn Read>, _) = match (text, file) {
        (_, Some(path)) => {
            let what = format!("the message in {}", path.display());
            (Box::new(open(path, &what)?), what)
        }
        (Some("-"), None) => (Box::new(io::stdin().lock()), "the message on standard input".to_owned()),
        (text, None) => return Ok((text.unwrap_or_default().into(), "the message".to_owned())),
    };
    Ok((read(&mut from, MAX_MESSAGE, &what)?, what))
}

fn open(path: &Path, what: &str) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("cannot read {what}"))
}

/// All of it, if that is at most `most` bytes.
fn read(from: &mut dyn Read, most: u64, what: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {what}"))?;
    if bytes.len() as u64 > most {
        bail!("{what} is longer than {} KiB: is it the right file?", most >> 10);
    }
    Ok(bytes)
}

fn text(bytes: Vec<u8>, what: &str, instead: &str) -> anyhow::Result<String> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            bail!("{what} is not UTF-8 after byte {}{instead}", error.utf8_error().valid_up_to())
        }
    }
}

/// A name as a cell of a table.
fn name(name: &str) -> String {
    if name.is_empty() { "\"\"".to_owned() } else { escaped(name).to_string() }
}

fn print_listing<T>(listing: &Listing<T>, what: &str, columns: &[Column<T>]) -> anyhow::Result<()> {
    if listing.entries.is_empty() {
        return print(format!("no {what}: nobody is connected to a route of mode broadcast\n"));
    }
    let mut shown = table(columns, &listing.entries);
    let (here, total) = (listing.entries.len(), listing.total);
    if (here as u64) < total {
        shown.push_str(&format!("{here} of {total} {what}; --limit N shows more\n"));
    }
    print(shown)
}

/// It was read as JSON, in which nothing that [`escaped`] changes but white space stands outside of strings, and what is
/// white space there never within.
fn print_json(json: &str) -> anyhow::Result<()> {
    let lines: Vec<_> =
        json.lines().map(|line| escaped(&line.replace(['\t', '\r'], " ")).to_string()).collect();
    print(format!("{}\n", lines.join("\n")))
}
