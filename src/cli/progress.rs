//! Nothing is silent for more than two seconds: a spinner on a terminal, plain lines elsewhere; both on stderr.

use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Quick answers show nothing.
const PATIENCE: Duration = Duration::from_millis(700);
/// First plain line; then one every ten seconds.
const FIRST_LINE: Duration = Duration::from_millis(1900);
const NEXT_LINE: Duration = Duration::from_secs(10);

/// Waits for `work` and meanwhile shows what `say` tells, with the elapsed time.
pub(super) async fn during<T>(say: impl Fn() -> String, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let begun = Instant::now();
    if io::stderr().is_terminal() {
        if let Ok(done) = tokio::time::timeout(PATIENCE, work.as_mut()).await {
            return done;
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                done = work.as_mut() => {
                    bar.finish_and_clear();
                    return done;
                }
                _ = ticks.tick() => {
                    bar.set_message(format!("{} · {} s", say(), begun.elapsed().as_secs()));
                    bar.tick();
                }
            }
        }
    }
    let mut patience = FIRST_LINE;
    loop {
        match tokio::time::timeout(patience, work.as_mut()).await {
            Ok(done) => return done,
            Err(_) => {
                // Where stderr is closed nobody waits for words.
                let _ = writeln!(io::stderr(), "{} · {} s", say(), begun.elapsed().as_secs());
                patience = NEXT_LINE;
            }
        }
    }
}
