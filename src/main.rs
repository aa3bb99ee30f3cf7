//! The roof: picks daemon or client.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use lightnode::api;
use lightnode::api::types::{Code, NodeError};
use lightnode::cli::exit::{Effect, Failure, USAGE};
use lightnode::cli::secret::SeedStore;
use lightnode::cli::{self, Cli, Command, Output};
use lightnode::config::{Config, ConfigError};
use lightnode::keys::{Kept, Passphrase, SEED_FILE, Seed, SeedError};
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
        Command::Passphrase(cli::Passphrase::Change(args)) => cli::secret::change(args, &SeedFile(&config), output),
        Command::Seed(cli::Seed::Show(args)) => cli::secret::show(args, &SeedFile(&config), output),
        Command::Db(cli::Db::Check(given)) => {
            let passphrase = passphrase_of(given, &config)?;
            Ok(cli::db::report(&node::check::check(&config, passphrase.as_ref())?, output))
        }
        Command::Unlock(given) => {
            let passphrase = cli::secret::present(given, &SeedFile(&config))?;
            small_runtime()?.block_on(cli::unlock(&passphrase, &config, output))
        }
        command => Ok(small_runtime()?.block_on(cli::run(command, &config, output))),
    }
}

/// The passphrase of the seed, if it needs one; the configured file gives it when nothing else is said.
fn passphrase_of(given: &cli::Given, config: &Config) -> Result<Option<Passphrase>, NodeError> {
    let seed = SeedFile(config);
    if !seed.is_sealed()? {
        return Ok(None);
    }
    let mut given = given.clone();
    if !given.stdin && given.passphrase_file.is_none() {
        given.passphrase_file = config.passphrase_file.clone();
    }
    Ok(Some(Passphrase::given(&cli::secret::present(&given, &seed)?)))
}

/// For one request.
fn small_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)
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

/// The seed file of the data directory, for the commands that touch it.
struct SeedFile<'a>(&'a Config);

impl SeedStore for SeedFile<'_> {
    fn path(&self) -> PathBuf {
        self.0.data_dir.join(SEED_FILE)
    }

    fn exists(&self) -> Result<bool, NodeError> {
        Seed::exists(&self.0.data_dir).map_err(refused)
    }

    fn is_sealed(&self) -> Result<bool, NodeError> {
        self.read().map(|kept| kept.is_sealed())
    }

    fn create(&self, passphrase: Option<&str>) -> Result<Zeroizing<String>, NodeError> {
        let passphrase = fresh(passphrase)?;
        node::drop_restore(self.0)?;
        Seed::create(&self.0.data_dir, passphrase.as_ref()).map(|seed| seed.words()).map_err(refused)
    }

    fn restore(&self, words: &str, passphrase: Option<&str>, backup: Option<&Path>) -> Result<usize, NodeError> {
        // What is to be restored is on the disk before the seed is: a first start never misses it.
        Seed::from_words(words).map_err(refused)?;
        let passphrase = fresh(passphrase)?;
        let backup = backup.map(node::read_backup).transpose()?;
        let channels = node::prepare_restore(self.0, words, backup.as_deref())?;
        Seed::restore(&self.0.data_dir, words, passphrase.as_ref()).map_err(refused)?;
        Ok(channels)
    }

    fn words(&self, passphrase: Option<&str>) -> Result<Zeroizing<String>, NodeError> {
        let passphrase = passphrase.map(Passphrase::given);
        self.read()?.open(passphrase.as_ref()).map(|seed| seed.words()).map_err(refused)
    }

    fn change(&self, old: Option<&str>, new: Option<&str>) -> Result<(), NodeError> {
        let (old, new) = (old.map(Passphrase::given), fresh(new)?);
        Seed::change(&self.0.data_dir, old.as_ref(), new.as_ref()).map_err(refused)
    }

    fn check_new(&self, passphrase: &str) -> Result<(), NodeError> {
        fresh(Some(passphrase)).map(|_| ())
    }

    fn in_file(&self, path: &Path) -> Result<Zeroizing<String>, NodeError> {
        Passphrase::from_file(path).map(|passphrase| passphrase.text()).map_err(refused)
    }
}

impl SeedFile<'_> {
    fn read(&self) -> Result<Kept, NodeError> {
        Kept::read(&self.0.data_dir).map_err(refused)
    }
}

fn fresh(passphrase: Option<&str>) -> Result<Option<Passphrase>, NodeError> {
    passphrase.map(Passphrase::new).transpose().map_err(refused)
}

fn refused(error: SeedError) -> NodeError {
    let code = match error {
        SeedError::UnknownWord { .. }
        | SeedError::WordCount(_)
        | SeedError::Checksum
        | SeedError::PassphraseLength { .. } => Code::BadRequest,
        SeedError::Exists(_)
        | SeedError::Exposed { .. }
        | SeedError::Empty(_)
        | SeedError::Damaged { .. }
        | SeedError::WrongPassphrase
        | SeedError::PassphraseFile { .. } => Code::Refused,
        SeedError::Locked => Code::Locked,
        SeedError::Missing(_)
        | SeedError::Random(_)
        | SeedError::Memory(_)
        | SeedError::Busy(_)
        | SeedError::Io { .. } => Code::Failed,
    };
    NodeError::new(code, error.to_string())
}
