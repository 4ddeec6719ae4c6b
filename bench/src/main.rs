//! The machinery of `make bench`: the load generator, what stands behind the proxies, and the report.
//!
//! `bench.sh` starts it, once for each role. Each workload prints one JSON object on one line;
//! `report` reads a file of such lines.

mod bare;
mod client;
mod events;
mod feed;
mod forward;
mod report;
mod server;
mod sockets;
mod sys;
mod upstream;
mod usage;
mod workload;
mod ws;

use std::error::Error;
use std::net::SocketAddrV4;

use clap::{Parser, Subcommand};
use feed::Way;
use serde_json::Value;
use workload::fanout::{self, Fanout};
use workload::handshakes::{self, Handshakes};
use workload::idle::{self, Idle};
use workload::load::{self, Load};
use workload::stalled::{self, Stalled};
use workload::{Figures, Watch};

#[derive(Parser)]
#[command(about = "What a WebSocket proxy costs, on loopback: load generator, upstream and report")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct Common {
    /// Where to connect: ws://127.0.0.1:PORT/PATH
    #[arg(long)]
    url: String,
    /// "Name: value" sent with each handshake
    #[arg(long)]
    header: Vec<String>,
    /// Process to be charged; its descendants are added
    #[arg(long)]
    proxy_pid: Option<u32>,
    /// Upstream process, to see whether it was the limit
    #[arg(long)]
    upstream_pid: Option<u32>,
    /// KEY=VALUE put first into the result
    #[arg(long)]
    tag: Vec<String>,
}

#[derive(Subcommand)]
enum Command {
    /// WebSocket echo server, or with --flood one that only sends
    Upstream {
        #[arg(long)]
        listen: SocketAddrV4,
        /// Messages per second to every client
        #[arg(long)]
        flood: Option<f64>,
        /// Bytes of a flooded message
        #[arg(long, default_value_t = 16384)]
        size: usize,
        /// End after this long, whatever happens
        #[arg(long, default_value_t = 300)]
        max_secs: u64,
    },
    /// Raw TCP forwarder (tokio): the cost of a proxy that looks at nothing
    Forward {
        #[arg(long)]
        listen: SocketAddrV4,
        #[arg(long)]
        to: SocketAddrV4,
        /// End after this long, whatever happens
        #[arg(long, default_value_t = 300)]
        max_secs: u64,
    },
    /// Spreads one feed over all clients, one write each: the cost of a broadcast that does nothing else
    Bare {
        #[arg(long)]
        listen: SocketAddrV4,
        /// The WebSocket server to spread
        #[arg(long)]
        feed: SocketAddrV4,
        /// End after this long, whatever happens
        #[arg(long, default_value_t = 300)]
        max_secs: u64,
    },
    /// Echo round trips
    Load {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value_t = 64)]
        conns: usize,
        /// Payload bytes of a message
        #[arg(long, default_value_t = 16)]
        size: usize,
        /// Seconds from one message of a connection to its next; 0: as soon as it came back
        #[arg(long, default_value_t = 0.0)]
        every: f64,
        #[arg(long, default_value_t = 5.0)]
        secs: f64,
        #[arg(long, default_value_t = 1.0)]
        warmup: f64,
    },
    /// Many idle connections
    Idle {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value_t = 9500)]
        conns: usize,
        /// New connections per second, at most
        #[arg(long, default_value_t = 450.0)]
        rate: f64,
        /// Seconds to watch them
        #[arg(long, default_value_t = 3.0)]
        hold: f64,
        /// Seconds from closing them to the last look at the memory
        #[arg(long, default_value_t = 4.0)]
        after_close: f64,
    },
    /// Connect, upgrade, close
    Handshakes {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value_t = 32)]
        concurrency: usize,
        #[arg(long, default_value_t = 5.0)]
        secs: f64,
        #[arg(long, default_value_t = 1.0)]
        warmup: f64,
    },
    /// Receivers of a flood, one of which stops reading
    Stalled {
        #[command(flatten)]
        common: Common,
        #[arg(long)]
        upstream: SocketAddrV4,
        #[arg(long, default_value_t = 10)]
        readers: usize,
        /// Seconds of each phase: all read, one does not
        #[arg(long, default_value_t = 5.0)]
        secs: f64,
        #[arg(long, default_value_t = 1.0)]
        warmup: f64,
    },
    /// Subscribers of one feed, which is served from here, or published from here
    Fanout {
        #[command(flatten)]
        common: Common,
        /// The feed's server; with --grip its backend
        #[arg(long)]
        feed: SocketAddrV4,
        /// The proxy is published to on this WebSocket, and --feed not used
        #[arg(long)]
        publish: Option<String>,
        /// The proxy is published to by ZeroMQ at this address, as pushpin has it
        #[arg(long, conflicts_with = "publish")]
        grip: Option<SocketAddrV4>,
        /// Subscribers have event streams in place of WebSockets
        #[arg(long)]
        events: bool,
        #[arg(long, default_value_t = 1000)]
        conns: usize,
        /// New connections per second, at most
        #[arg(long, default_value_t = 2000.0)]
        connects: f64,
        /// Messages per second, on average
        #[arg(long, default_value_t = 20.0)]
        rate: f64,
        /// Messages that are sent back to back
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        burst: u64,
        /// Payload bytes of a message
        #[arg(long, default_value_t = 256)]
        size: usize,
        #[arg(long, default_value_t = 10.0)]
        secs: f64,
        #[arg(long, default_value_t = 1.0)]
        warmup: f64,
        /// So many do not read in a second part of the run
        #[arg(long, default_value_t = 0)]
        stalled: usize,
    },
    /// Tables and verdicts from a file of result lines
    Report { file: String },
}

fn main() -> Result<(), Box<dyn Error>> {
    sys::prepare_process();
    match Args::parse().command {
        Command::Upstream { listen, flood, size, max_secs } => {
            let flood = flood.map(|rate| upstream::Flood { rate, size });
            upstream::serve(&sys::listen(listen)?, flood, max_secs)?;
        }
        Command::Forward { listen, to, max_secs } => forward::run(sys::listen(listen)?, to, max_secs)?,
        Command::Bare { listen, feed, max_secs } => bare::run(&sys::listen(listen)?, feed, max_secs)?,
        Command::Report { file } => report::print(&file)?,
        Command::Load { common, conns, size, every, secs, warmup } => {
            let p = Load { conns, size, every, secs, warmup };
            common.tell(load::run(&common.target()?, p, common.watch())?)?;
        }
        Command::Idle { common, conns, rate, hold, after_close } => {
            let p = Idle { conns, rate, hold, after_close };
            common.tell(idle::run(&common.target()?, p, common.watch())?)?;
        }
        Command::Handshakes { common, concurrency, secs, warmup } => {
            let p = Handshakes { concurrency, secs, warmup };
            common.tell(handshakes::run(&common.target()?, p, common.watch())?)?;
        }
        Command::Stalled { common, upstream, readers, secs, warmup } => {
            let p = Stalled { readers, secs, warmup, upstream };
            common.tell(stalled::run(&common.target()?, p, common.watch())?)?;
        }
        Command::Fanout {
            common,
            feed,
            publish,
            grip,
            events,
            conns,
            connects,
            rate,
            burst,
            size,
            secs,
            warmup,
            stalled,
        } => {
            let way = match (publish, grip) {
                (Some(url), _) => Way::Publish(client::target(&url, &[])?),
                (None, Some(publish)) => Way::Grip { backend: sys::listen(feed)?, publish },
                (None, None) => Way::Serve(sys::listen(feed)?),
            };
            let p = Fanout { conns, connects, rate, burst, size, secs, warmup, stalled };
            let to = if events { common.events_target()? } else { common.target()? };
            common.tell(fanout::run(&to, p, way, common.watch())?)?;
        }
    }
    Ok(())
}

impl Common {
    fn target(&self) -> Result<client::Target, String> {
        client::target(&self.url, &self.header)
    }

    fn events_target(&self) -> Result<client::Target, String> {
        client::events_target(&self.url, &self.header)
    }

    fn watch(&self) -> Watch {
        Watch { proxy: self.proxy_pid, upstream: self.upstream_pid }
    }

    /// Prints the result: the tags, then the figures. A tag that is a number stays one.
    fn tell(&self, mut figures: Figures) -> Result<(), String> {
        let mut line = Figures::new();
        for tag in &self.tag {
            let (key, value) = tag.split_once('=').ok_or_else(|| format!("--tag {tag}: wants KEY=VALUE"))?;
            let value = value.parse::<u64>().map_or_else(|_| value.into(), Value::from);
            line.insert(key.into(), value);
        }
        line.append(&mut figures);
        println!("{}", Value::Object(line));
        Ok(())
    }
}
