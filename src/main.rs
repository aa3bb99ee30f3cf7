//! The roof: picks daemon or client.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use lightnode::api;
use lightnode::api::types::{Code, NodeError};
use lightnode::cli::exit::{Effect, Failure, USAGE};
use lightnode::cli::init::SeedStore;
use lightnode::cli::{self, Cli, Command, Output};
use lightnode::config::{Config, ConfigError};
use lightnode::keys::{SEED_FILE, Seed, SeedError};
use lightnode::logs;
use lightnode::node;
use lightnode::task::{Shutdown, StopReason, Tasks};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

/// How long tasks have for their last writes.
const STOP_WITHIN: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::SecondOpinion) {
        return node::second_opinion();
    }
    let output = Output::new(cli.global.json, cli.global.verbose > 0);
    ExitCode::from(match run(&cli, output) {
        Ok(code) => code,
        Err(failure) => output.failure(&failure),
    })
}

fn run(cli: &Cli, output: Output) -> Result<u8, Failure> {
    if let Command::Completions(args) = &cli.command {
        clap_complete::generate(args.shell, &mut Cli::command(), "lightnode", &mut std::io::stdout());
        return Ok(0);
    }
    let config = Config::load(&cli.overrides()).map_err(misconfigured)?;
    match &cli.command {
        Command::Init(args) => cli::init::init(args, &config, &SeedFile(&config), output),
        Command::Run => daemon(config),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
            Ok(runtime.block_on(cli::run(command, &config, output)))
        }
    }
}

/// Runs until it is asked to stop, or cannot go on.
fn daemon(config: Config) -> Result<u8, Failure> {
    config.require_servers().map_err(misconfigured)?;
    cli::init::prepare(&config)?;
    let written = logs::start(&logs::Settings {
        levels: &config.log.level,
        stderr: true,
        dir: Some(&config.data_dir.join("logs")),
        keep: config.log.keep_days as usize,
    });
    written.map_err(|error| NodeError::new(Code::Failed, error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(no_runtime)?;
    let ended = runtime.block_on(live(config));
    // A thread that hangs in the disk must not keep the process from ending.
    runtime.shutdown_background();
    ended.map(|()| 0).map_err(Failure::from)
}

/// The daemon's life: open, answer, come up, wait for the end, leave in good order.
async fn live(config: Config) -> Result<(), NodeError> {
    let shutdown = Shutdown::new();
    let tasks = Tasks::new(shutdown.clone());
    watch_signals(&tasks)?;
    let opened = node::open(config, tasks.clone())?;
    let (node, close) = (opened.node(), opened.closer());
    let listeners = api::Listeners::bind(&node.config().api)
        .await
        .map_err(|error| NodeError::new(Code::Failed, error.to_string()))?;
    let (served, until) = (node.clone(), shutdown.clone());
    tasks.spawn("api", async move {
        api::serve(served, listeners, async move { drop(until.wait().await) }).await;
        Ok::<_, Infallible>(())
    });
    tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %node.config().api.socket.display(), "answering");
    if let Err(error) = opened.run().await {
        shutdown.trigger(StopReason::Failed { task: "start".into(), why: error.to_string() });
    }
    let reason = shutdown.wait().await;
    tracing::info!(%reason, "stopping");
    let joined = tasks.join(STOP_WITHIN).await;
    let closed = tokio::task::spawn_blocking(close).await;
    match closed {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(NodeError::new(Code::Internal, error.to_string())),
        Err(error) => return Err(NodeError::new(Code::Internal, error.to_string())),
    }
    if let Err(hanging) = joined {
        tracing::warn!(%hanging, "stopped without them; what was acknowledged is on disk");
    }
    tracing::info!("stopped");
    match reason {
        StopReason::Asked(_) => Ok(()),
        StopReason::Failed { .. } => Err(NodeError::new(Code::Internal, format!("the node had to stop: {reason}"))
            .hint("what was acknowledged is on disk; the log has the details")),
    }
}

/// SIGTERM and SIGINT begin an orderly end.
fn watch_signals(tasks: &Tasks) -> Result<(), NodeError> {
    let unheard = |error: std::io::Error| NodeError::new(Code::Failed, format!("no signals can be heard: {error}"));
    let mut term = signal(SignalKind::terminate()).map_err(unheard)?;
    let mut int = signal(SignalKind::interrupt()).map_err(unheard)?;
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("signals", async move {
        let name = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
            _ = shutdown.wait() => return Ok::<_, Infallible>(()),
        };
        shutdown.trigger(StopReason::Asked(name.into()));
        Ok(())
    });
    Ok(())
}

fn misconfigured(error: ConfigError) -> Failure {
    let hint = error.hint();
    let mut error = NodeError::new(Code::BadRequest, error.to_string());
    error.hint = hint;
    Failure { error, exit: USAGE }
}

fn no_runtime(error: std::io::Error) -> Failure {
    Failure::new(NodeError::new(Code::Failed, format!("the system gives no event queue: {error}")), Effect::Harmless)
}

/// The seed file of the data directory, for `init`.
struct SeedFile<'a>(&'a Config);

impl SeedStore for SeedFile<'_> {
    fn path(&self) -> PathBuf {
        self.0.data_dir.join(SEED_FILE)
    }

    fn exists(&self) -> Result<bool, NodeError> {
        Seed::exists(&self.0.data_dir).map_err(refused)
    }

    fn create(&self) -> Result<Zeroizing<String>, NodeError> {
        Seed::create(&self.0.data_dir).map(|seed| seed.words()).map_err(refused)
    }

    fn restore(&self, words: &str, backup: Option<&Path>) -> Result<usize, NodeError> {
        // What is to be restored is on the disk before the seed is: a first start never misses it.
        Seed::from_words(words).map_err(refused)?;
        let backup = backup.map(node::read_backup).transpose()?;
        let channels = node::prepare_restore(self.0, words, backup.as_deref())?;
        Seed::restore(&self.0.data_dir, words).map_err(refused)?;
        Ok(channels)
    }
}

fn refused(error: SeedError) -> NodeError {
    let code = match error {
        SeedError::UnknownWord { .. } | SeedError::WordCount(_) | SeedError::Checksum => Code::BadRequest,
        SeedError::Exists(_) | SeedError::Exposed { .. } | SeedError::Empty(_) => Code::Refused,
        SeedError::Missing(_) | SeedError::Random(_) | SeedError::Io { .. } => Code::Failed,
    };
    NodeError::new(code, error.to_string())
}
