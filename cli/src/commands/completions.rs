//! `klikit completions`: completions for shells.

use clap::Args;
use clap_complete::Shell;

use crate::{error::CliError, outcome::Outcome, output::Output};

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit completions bash > ~/.local/share/bash-completion/completions/klikit
  klikit completions zsh > ~/.zfunc/_klikit
  klikit completions fish > ~/.config/fish/completions/klikit.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints the completions for this command line.
    pub(crate) fn run(&self, mut definition: clap::Command, output: &mut Output) -> Result<Outcome, CliError> {
        if output.is_json() {
            return Err(CliError::new("completions are a script and have no JSON: remove --json"));
        }
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut definition, "klikit", &mut script);
        output.line(String::from_utf8_lossy(&script).trim_end())?;
        Ok(Outcome::Fine)
    }
}
