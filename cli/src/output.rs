//! Standard output, for people and for programs.

use std::{
    fmt,
    io::{self, BufWriter, Write},
    time::Duration,
};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use terminal_size::{Width, terminal_size_of};

use crate::error::CliError;

/// The format of what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text for people.
    Text,
    /// JSON with stable names of fields, for programs.
    Json,
}

/// Standard output, without colours. Bytes of input that become output, such as a body to sign, stay as they are.
///
/// Nothing is printed before a [`flush`](Self::flush) or a full buffer. After the reader has closed the pipe, as `head`
/// does when it has all that it wants, everything else is dropped, which is no fault.
pub(crate) struct Output {
    stream: BufWriter<io::Stdout>,
    format: Format,
    is_closed: bool,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { stream: BufWriter::new(io::stdout()), format, is_closed: false }
    }

    /// Returns whether the command prints JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Returns whether the reader has closed the pipe, so that nobody sees what is printed.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Prints a line of text.
    pub(crate) fn line(&mut self, text: impl fmt::Display) -> Result<(), CliError> {
        self.write(|stream| writeln!(stream, "{text}"))
    }

    /// Prints a table in plain columns, at most as wide as the terminal.
    ///
    /// Outside of a terminal, no row is wrapped, so that `grep` finds whole rows.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), CliError> {
        let mut table = table.clone();
        table.load_preset(presets::NOTHING);
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        if let Some((Width(width), _)) = terminal_size_of(io::stdout()) {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        table.lines().try_for_each(|line| self.line(line.trim_end()))
    }

    /// Prints a value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let line = serde_json::to_string(value).expect("the reports of commands have no keys other than text");
        self.line(line)
    }

    /// Sends what was printed to the reader.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        self.write(BufWriter::flush)
    }

    fn write(&mut self, write: impl FnOnce(&mut BufWriter<io::Stdout>) -> io::Result<()>) -> Result<(), CliError> {
        if self.is_closed {
            return Ok(());
        }
        match write(&mut self.stream) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            written => written.map_err(|error| CliError::of_output(&error)),
        }
    }
}

/// Prints a line to standard error. Ignores a failure, because there is no other place to report it.
pub(crate) fn note(text: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Creates a progress bar on standard error, which is hidden unless standard error is a terminal.
pub(crate) fn progress(template: &str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    let progress = ProgressBar::new(length).with_style(style);
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

/// Creates an empty table with a header.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.set_header(header);
    table
}
