//! How fast the scanner walks: bytes and frames a second, in buffers as a relay reads them.
//!
//! `cargo bench --bench scanner`

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use outrigger::internals::{Extensions, Role, Rules, Scanner, Verdict};

/// What a relay reads at once.
const BUFFER: usize = 64 * 1024;

/// One binary frame.
fn frame(payload: usize, is_masked: bool) -> Vec<u8> {
    let mask_bit = u8::from(is_masked) << 7;
    let mut bytes = vec![0x82];
    match payload {
        0..126 => bytes.push(mask_bit | payload as u8),
        126..=0xffff => {
            bytes.push(mask_bit | 126);
            bytes.extend((payload as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask_bit | 127);
            bytes.extend((payload as u64).to_be_bytes());
        }
    }
    if is_masked {
        bytes.extend([0x37, 0xfa, 0x21, 0x3d]);
    }
    bytes.resize(bytes.len() + payload, 7);
    bytes
}

fn scanner(sender: Role) -> Scanner {
    Scanner::new(Rules {
        sender,
        extensions: Extensions::None,
        max_frame: 1 << 24,
        max_message: 1 << 26,
        show_text: false,
    })
}

/// Scans `stream` in pieces of `piece` bytes, with what is held in front of the next one.
fn scan(scanner: &mut Scanner, stream: &mut [u8], piece: usize) -> u32 {
    let (mut start, mut end, mut messages) = (0, 0, 0);
    while end < stream.len() {
        end = stream.len().min(end + piece);
        let scanned = scanner.scan(&mut stream[start..end], u32::MAX, |_| Verdict::Pass);
        start += scanned.held.start;
        messages += scanned.messages;
    }
    messages
}

/// Frames of `payload` bytes, as many as fill a buffer (or one that does), read `piece` bytes at a time.
fn run(criterion: &mut Criterion, group: &str, payload: usize, piece: impl Fn(usize) -> usize) {
    let mut group = criterion.benchmark_group(group);
    for (sender, name) in [(Role::Client, "masked"), (Role::Server, "unmasked")] {
        let frame = frame(payload, sender == Role::Client);
        let count = (BUFFER / frame.len()).max(1);
        let stream = frame.repeat(count);
        for (throughput, unit) in [
            (Throughput::Bytes(stream.len() as u64), "bytes"),
            (Throughput::Elements(count as u64), "frames"),
        ] {
            group.throughput(throughput);
            group.bench_function(format!("{name}/{unit}"), |bencher| {
                let mut scanner = scanner(sender);
                // A stream of whole frames leaves the scanner where it began, and nothing is lifted out.
                let mut stream = stream.clone();
                bencher.iter(|| {
                    let messages = scan(&mut scanner, black_box(&mut stream), piece(frame.len()));
                    assert_eq!(messages as usize, count);
                });
            });
        }
    }
    group.finish();
}

fn whole(criterion: &mut Criterion) {
    run(criterion, "16 B", 16, |_| BUFFER);
    run(criterion, "1 KiB", 1024, |_| BUFFER);
    run(criterion, "64 KiB", 64 * 1024, |_| BUFFER * 2);
}

/// Each read ends one byte into a header: the next one finishes it.
fn split(criterion: &mut Criterion) {
    run(criterion, "1 KiB, split headers", 1024, |frame| frame + 1);
}

/// What is held is shown whole: pings between messages, one of them lifted out of each pair.
fn controls(criterion: &mut Criterion) {
    let mut pair = frame(16, false);
    pair.extend(b"\x89\x04drop\x89\x04pass");
    let stream = pair.repeat(BUFFER / pair.len());
    let mut group = criterion.benchmark_group("16 B, with pings");
    group.throughput(Throughput::Bytes(stream.len() as u64));
    group.bench_function("unmasked/bytes", |bencher| {
        let mut scanner = scanner(Role::Server);
        bencher.iter_batched_ref(
            || stream.clone(),
            |stream| {
                scanner.scan(stream, u32::MAX, |whole| {
                    if whole.payload == b"drop" { Verdict::Drop } else { Verdict::Pass }
                })
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    targets = whole, split, controls
}
criterion_main!(benches);
