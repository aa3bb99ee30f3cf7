//! `stop`: returns when the process is gone, so that a script may start it again or copy its directory.

use std::fs;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::client::Client;
use super::exit::{DONE, Effect, Failure};
use super::output::Output;
use super::progress::during;
use crate::api::types::{Code, Done, NodeError};

const QUICK: Duration = Duration::from_secs(30);
/// The daemon ends in under five seconds; a disk that hangs may take longer.
const STOPPING: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

pub(super) async fn stop(client: &Client, output: Output) -> Result<u8, Failure> {
    let process = client.daemon_pid().await.and_then(Process::of);
    let reply = client.post::<Done>("/v1/stop", &serde_json::json!({}), QUICK).await;
    let reply = reply.map_err(|error| error.failure(Effect::Harmless))?;
    let last = Instant::now() + STOPPING;
    let gone = async {
        loop {
            let there = match &process {
                Some(process) => process.lives(),
                // Another system or another container: the socket is all that can be seen.
                None => client.answers().await,
            };
            if !there {
                return true;
            }
            if Instant::now() > last {
                return false;
            }
            sleep(LOOK).await;
        }
    };
    if !during(|| "waiting for its end".to_owned(), gone).await {
        let message = format!("the daemon has not ended within {} seconds", STOPPING.as_secs());
        return Err(NodeError::new(Code::Unknown, message).hint("look at its log").into());
    }
    output.reply(&reply, |_| "stopped".to_owned());
    Ok(DONE)
}

/// A process, told from a later one with the same number by the time of its start.
struct Process {
    pid: i32,
    started: String,
}

impl Process {
    fn of(pid: i32) -> Option<Self> {
        let (_, started) = look(pid)?;
        Some(Self { pid, started })
    }

    /// A zombie has released its files and only waits for its parent.
    fn lives(&self) -> bool {
        look(self.pid).is_some_and(|(state, started)| started == self.started && !["Z", "X"].contains(&&*state))
    }
}

/// State and start time of `/proc/<pid>/stat` (fields 3 and 22), where the system has it.
fn look(pid: i32) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program stands in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.to_owned();
    Some((state, fields.nth(18)?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_until_it_ends_even_if_nobody_waited_for_it() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(process.lives());
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while process.lives() {
            assert!(std::time::Instant::now() < deadline, "a zombie counts as alive");
        }
        child.wait().unwrap();
        assert!(!process.lives());
    }
}
