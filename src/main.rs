//! The roof: picks daemon or client.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use lightnode::api::types::{Code, NodeError};
use lightnode::cli::exit::{Effect, Failure, USAGE};
use lightnode::cli::init::SeedStore;
use lightnode::cli::{self, Cli, Command, Output};
use lightnode::config::{Config, ConfigError};
use lightnode::keys::{SEED_FILE, Seed, SeedError};
use lightnode::logs;
use zeroize::Zeroizing;

fn main() -> ExitCode {
    let cli = Cli::parse();
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
        Command::Run => daemon(&config),
        command => {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
            Ok(runtime.block_on(cli::run(command, &config, output)))
        }
    }
}

fn daemon(config: &Config) -> Result<u8, Failure> {
    config.require_servers().map_err(misconfigured)?;
    cli::init::prepare(config)?;
    let dir = config.data_dir.join("logs");
    let keep = usize::try_from(config.log.keep_days).unwrap_or(usize::MAX);
    logs::start(&logs::Settings { levels: &config.log.level, stderr: true, dir: Some(&dir), keep })
        .map_err(|error| NodeError::new(Code::Failed, error.to_string()))?;
    first_start(config)?;
    Err(NodeError::new(Code::NotReady, "this build of lightnode has no daemon yet").into())
}

/// What `init` does, without asking and without showing the words.
fn first_start(config: &Config) -> Result<(), NodeError> {
    let seed = SeedFile(config);
    if seed.exists()? {
        return Ok(());
    }
    seed.create()?;
    let file = cli::init::write_config(config)?;
    tracing::info!(
        "first start: a new seed of 24 words lies in {}; keep a copy in a safe place. The configuration is {}",
        seed.path().display(),
        file.display()
    );
    Ok(())
}

fn misconfigured(error: ConfigError) -> Failure {
    let hint = error.hint();
    let mut error = NodeError::new(Code::BadRequest, error.to_string());
    error.hint = hint;
    Failure { error, exit: USAGE }
}

fn no_runtime(error: std::io::Error) -> Failure {
    Failure::new(
        NodeError::new(Code::Failed, format!("the system gives no event queue: {error}")),
        Effect::Harmless,
    )
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

    fn restore(&self, words: &str) -> Result<(), NodeError> {
        Seed::restore(&self.0.data_dir, words).map(|_| ()).map_err(refused)
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
