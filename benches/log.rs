//! What a private log costs: on the road of a message, and ten thousand of them that keep nothing.
//!
//! `cargo bench --bench log`

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use outrigger::internals::{Budget, Kind, Log, Logs, Message, Metrics, NewEntry};

/// Sessions of one process.
const SESSIONS: usize = 10_000;

fn entry(payload: &[u8]) -> NewEntry {
    let message = Message::new(Kind::Binary, payload);
    NewEntry { message, deflated: None, is_critical: false, key: None, to: None }
}

fn logs(limit: usize) -> (Arc<Budget>, Arc<Logs>) {
    let budget = Arc::new(Budget::new(limit));
    let metrics = Metrics::new("outrigger").expect("declared");
    (Arc::clone(&budget), Logs::new(budget, metrics))
}

fn message(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log/private");
    let (_, logs) = logs(usize::MAX);
    for size in [16, 1024] {
        let payload = vec![7; size];
        // What both below include.
        group.bench_function(format!("encode/{size}"), |bencher| {
            bencher.iter_batched(|| (), |()| black_box(entry(&payload)), BatchSize::SmallInput);
        });
        let mut writer = Log::private(&logs);
        group.bench_function(format!("append, let_go/{size}"), |bencher| {
            bencher.iter(|| {
                let sequence = writer.append(entry(black_box(&payload)));
                writer.let_go(sequence + 1);
            });
        });
        let mut writer = Log::private(&logs);
        let mut entries = Vec::new();
        let mut cursor = writer.log().join(outrigger::config::OnJoin::All);
        group.bench_function(format!("append, read, let_go/{size}"), |bencher| {
            bencher.iter(|| {
                writer.append(entry(black_box(&payload)));
                cursor = writer.log().read(cursor, u64::MAX, 64, 64 * 1024, &mut entries).cursor;
                entries.clear();
                writer.let_go(cursor.next);
            });
        });
    }
    group.finish();
}

fn many(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log/10,000 private");
    for (name, appended) in [("empty", 0), ("with one message", 1), ("with four messages", 4)] {
        let (budget, logs) = logs(usize::MAX);
        let writers: Vec<_> = (0..SESSIONS)
            .map(|_| {
                let mut writer = Log::private(&logs);
                for _ in 0..appended {
                    writer.append(entry(&[7; 16]));
                }
                writer
            })
            .collect();
        group.bench_function(format!("expire/{name}"), |bencher| bencher.iter(|| logs.expire()));
        // Others hold all the memory there is: each log that has something is asked, and nothing helps. What others hold
        // goes up and down, so that it is tried again.
        budget.set_limit(1 << 20);
        group.bench_function(format!("enforce_budget/{name}"), |bencher| {
            let mut others = 8 << 20;
            bencher.iter(|| {
                others = if others == 8 << 20 { 9 << 20 } else { 8 << 20 };
                budget.add(others);
                logs.enforce_budget();
                budget.sub(others);
            });
        });
        drop(writers);
    }
    group.finish();
}

criterion_group!(benches, message, many);
criterion_main!(benches);
