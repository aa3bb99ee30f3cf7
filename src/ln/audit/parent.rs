//! The parent: starts the child, bounds it, and reads what it concludes.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{Opinion, Question};

/// The hidden command that makes the binary the child.
const CHILD: &str = "second-opinion";
/// For all of one opinion. ElectrumX may take a second for a reply, and LDK's engine asks one thing after the other.
pub(super) const DEADLINE: Duration = Duration::from_secs(240);
/// The longest conclusion, in bytes.
const LONGEST: u64 = 8 << 20;

/// Asks in a child process, which ends with this future. Every way in which that can fail is an [`Opinion::BrokeOff`].
pub async fn ask(question: &Question) -> Opinion {
    let program = match program() {
        Ok(program) => program,
        Err(error) => return broke(format!("the program of this process is not found: {error}")),
    };
    let mut command = Command::new(program);
    command.arg(CHILD);
    bounded(command, DEADLINE, question).await
}

/// Runs the child for this long at most, with nothing of ours but the question.
async fn bounded(mut command: Command, deadline: Duration, question: &Question) -> Opinion {
    command.env_clear().current_dir("/").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let talk = async { converse(command.spawn()?, question).await };
    match timeout(deadline, talk).await {
        Ok(Ok(opinion)) => opinion,
        Ok(Err(error)) => broke(format!("the process for it does not start: {error}")),
        Err(_) => broke(format!("LDK's engine found no end within {} s", deadline.as_secs())),
    }
}

async fn converse(mut child: Child, question: &Question) -> io::Result<Opinion> {
    let text = serde_json::to_vec(question)?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let tell = async {
        if let Some(mut input) = input {
            // One that dies before it has read all says so by its end.
            let _ = input.write_all(&text).await;
        }
    };
    let mut said = Vec::new();
    let hear = async {
        match output {
            Some(output) => output.take(LONGEST + 1).read_to_end(&mut said).await,
            None => Ok(0),
        }
    };
    let ((), heard) = tokio::join!(tell, hear);
    heard?;
    if said.len() as u64 > LONGEST {
        return Ok(broke(format!("more than {LONGEST} bytes of conclusions")));
    }
    let ended = child.wait().await?;
    if !ended.success() {
        return Ok(broke(format!("LDK's engine died of what the server sent ({ended})")));
    }
    Ok(serde_json::from_slice(&said).unwrap_or_else(|error| broke(format!("no conclusion: {error}"))))
}

/// This very program, also when its file was replaced since the start.
fn program() -> io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() { Ok(running.into()) } else { std::env::current_exe() }
}

fn broke(why: String) -> Opinion {
    Opinion::BrokeOff { why }
}

#[cfg(test)]
mod tests {
    use bitcoin::constants::genesis_block;

    use super::super::Watched;
    use super::*;

    async fn asked(script: &str, deadline: Duration) -> String {
        let genesis = genesis_block(bitcoin::Network::Regtest).block_hash();
        // More than a pipe holds, so that a child that does not read is in the way.
        let question = Question { server: "x".repeat(200_000), proxy: None, genesis, watched: Watched::default() };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        match bounded(command, deadline, &question).await {
            Opinion::BrokeOff { why } => why,
            opinion => panic!("{script}: {opinion:?}"),
        }
    }

    #[tokio::test]
    async fn a_child_that_dies_hangs_or_talks_nonsense_is_no_opinion() {
        let long = Duration::from_secs(60);
        for (script, deadline, why) in [
            ("kill -ABRT $$", long, "died of what the server sent"),
            ("cat > /dev/null; exit 1", long, "died of what the server sent"),
            ("cat > /dev/null; echo 7", long, "no conclusion"),
            ("cat /dev/zero", long, "more than 8388608 bytes"),
            ("while :; do :; done", Duration::from_millis(200), "no end within 0 s"),
        ] {
            let said = asked(script, deadline).await;
            assert!(said.contains(why), "{script}: {said}");
        }
    }
}
