//! Each workload against the real upstream, through the real forwarder.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::thread;

use super::fanout::{self, Fanout};
use super::handshakes::{self, Handshakes};
use super::idle::{self, Idle};
use super::load::{self, Load};
use super::stalled::{self, Stalled};
use super::{Figures, Watch};
use crate::client::{self, Target};
use crate::feed::Way;
use crate::upstream::{self, Flood};
use crate::{bare, forward, sys};

/// Longer than any test takes; then the servers end by themselves.
const MAX_SECS: u64 = 60;

fn listen() -> (TcpListener, SocketAddrV4) {
    let listener = sys::listen(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    match listener.local_addr().unwrap() {
        SocketAddr::V4(addr) => (listener, addr),
        SocketAddr::V6(addr) => panic!("{addr} is not what was asked for"),
    }
}

/// An upstream, a forwarder before it, and what to say to the forwarder.
fn chain(flood: Option<Flood>) -> (Target, SocketAddrV4) {
    let (upstream, upstream_addr) = listen();
    thread::spawn(move || upstream::serve(&upstream, flood, MAX_SECS));
    let (forwarder, addr) = listen();
    thread::spawn(move || forward::run(forwarder, upstream_addr, MAX_SECS));
    (client::target(&format!("ws://{addr}/"), &[]).unwrap(), upstream_addr)
}

/// Upstream, forwarder and generator are this one process.
fn ourselves() -> Watch {
    Watch { proxy: Some(std::process::id()), upstream: None }
}

fn above_zero(figures: &Figures, key: &str) {
    assert!(figures[key].as_f64().unwrap() > 0.0, "{key} in {figures:?}");
}

#[test]
fn messages_of_every_length_class_come_back_right() {
    let (target, _) = chain(None);
    for size in [1, 16, 125, 126, 65535, 70_000] {
        let p = Load { conns: 4, size, every: 0.0, secs: 0.2, warmup: 0.05 };
        let figures = load::run(&target, p, ourselves()).unwrap();
        assert_eq!(figures["errors"], 0, "size {size}: {figures:?}");
        for key in ["messages_per_s", "p50_us", "cpu_us_per_message", "pss_after_kb"] {
            above_zero(&figures, key);
        }
    }
}

#[test]
fn messages_at_a_pace_are_as_many_as_there_is_time_for() {
    let (target, _) = chain(None);
    let p = Load { conns: 10, size: 16, every: 0.1, secs: 0.5, warmup: 0.1 };
    let figures = load::run(&target, p, ourselves()).unwrap();
    assert_eq!(figures["errors"], 0, "{figures:?}");
    // Ten connections with ten messages a second each; a busy machine may have fewer, and none has more.
    let rate = figures["messages_per_s"].as_f64().unwrap();
    assert!((30.0..=130.0).contains(&rate), "{figures:?}");
}

#[test]
fn handshakes_end_with_both_close_frames() {
    let (target, _) = chain(None);
    let p = Handshakes { concurrency: 4, secs: 0.3, warmup: 0.05 };
    let figures = handshakes::run(&target, p, ourselves()).unwrap();
    assert_eq!(figures["errors"], 0, "{figures:?}");
    above_zero(&figures, "handshakes_per_s");
    above_zero(&figures, "cpu_us_per_handshake");
}

#[test]
fn all_idle_connections_are_counted() {
    let (target, _) = chain(None);
    let p = Idle { conns: 50, rate: 1000.0, hold: 0.1, after_close: 0.1 };
    let figures = idle::run(&target, p, ourselves()).unwrap();
    assert_eq!((&figures["conns"], &figures["errors"]), (&50.into(), &0.into()), "{figures:?}");
    // How much, nobody can say here: other tests take and give memory in the same process.
    assert!(
        figures["pss_bytes_per_conn"].is_number() && figures["given_back_pct"].is_number(),
        "{figures:?}"
    );
}

#[test]
fn a_stalled_client_fills_the_buffers_of_its_sockets_and_the_others_miss_nothing() {
    let (target, upstream) = chain(Some(Flood { rate: 50.0, size: 16384 }));
    let p = Stalled { readers: 3, secs: 2.0, warmup: 0.2, upstream };
    let figures = stalled::run(&target, p, ourselves()).unwrap();
    assert_eq!((&figures["errors"], &figures["missed_with"]), (&0.into(), &0.into()), "{figures:?}");
    assert_eq!(figures["stalled_was_cut"], false);
    // 1.6 MB were offered; how much of that the kernel takes is its own affair.
    assert!(figures["kernel_client_kb"].as_f64().unwrap() > 64.0, "{figures:?}");
    above_zero(&figures, "delivered_without");
    above_zero(&figures, "delivered_with");
}

/// Where the feed listens, and what to say to the bare loop before it.
fn spread() -> (Target, Way) {
    let (feed, feed_addr) = listen();
    let (listener, addr) = listen();
    thread::spawn(move || bare::run(&listener, feed_addr, MAX_SECS));
    (client::target(&format!("ws://{addr}/feed"), &[]).unwrap(), Way::Serve(feed))
}

const FANOUT: Fanout = Fanout {
    conns: 20,
    connects: 400.0,
    rate: 50.0,
    burst: 1,
    size: 256,
    secs: 0.4,
    warmup: 0.1,
    stalled: 0,
};

#[test]
fn each_message_of_the_feed_reaches_each_subscriber_once() {
    for burst in [1, 16] {
        let (target, way) = spread();
        let figures = fanout::run(&target, Fanout { burst, ..FANOUT }, way, ourselves()).unwrap();
        assert_eq!((&figures["errors"], &figures["feed_links"]), (&0.into(), &1.into()), "{figures:?}");
        // 20 messages in 0.4 s; in whole bursts of 16 these are 32.
        let messages = if burst == 1 { 20 } else { 32 };
        assert_eq!(figures["delivered"], 20 * messages, "{figures:?}");
        above_zero(&figures, "cpu_us_per_delivery");
        above_zero(&figures, "p99_us");
    }
}

#[test]
fn subscribers_that_do_not_read_take_nothing_from_those_that_do() {
    let (target, way) = spread();
    let figures = fanout::run(&target, Fanout { stalled: 2, ..FANOUT }, way, ourselves()).unwrap();
    assert_eq!((&figures["errors"], &figures["stalled_cut"]), (&0.into(), &0.into()), "{figures:?}");
    assert_eq!(figures["delivered"], 20 * 20, "{figures:?}");
    assert_eq!(figures["delivered_with"], 18 * 20, "{figures:?}");
    assert!(figures["p99_beyond_a_tenth_us"].is_number(), "{figures:?}");
}

#[test]
fn a_refused_connection_is_an_error() {
    let (listener, addr) = listen();
    drop(listener);
    let target = client::target(&format!("ws://{addr}/"), &[]).unwrap();
    let p = Load { conns: 2, size: 16, every: 0.0, secs: 0.05, warmup: 0.0 };
    let figures = load::run(&target, p, Watch { proxy: None, upstream: None }).unwrap();
    assert_eq!(figures["errors"], 2);
}

#[test]
fn only_loopback_is_ever_loaded() {
    assert!(client::target("ws://192.0.2.1:80/", &[]).is_err_and(|e| e.contains("loopback")));
}
