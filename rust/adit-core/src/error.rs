//! The one error type. Messages name the argument, what was expected, what came, and the remedy.

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An argument as a whole is unusable.
    #[error("`{argument}` must {expected}; got {got}. {remedy}")]
    Argument { argument: &'static str, expected: String, got: String, remedy: &'static str },
    /// One entry of an array argument is unusable.
    #[error("`{argument}[{index}]` must {expected}; got {got}. {remedy}")]
    Entry { argument: &'static str, index: usize, expected: String, got: String, remedy: &'static str },
    /// The answer would not fit into a sensible amount of memory.
    #[error("this would take {got} {what}, more than the limit of {limit}. {remedy}")]
    TooLarge { what: &'static str, got: String, limit: usize, remedy: &'static str },
    /// One system of a batch is unusable.
    #[error("system {index}: {error}")]
    System { index: usize, error: Box<Error> },
    /// The operating system refused worker threads.
    #[error("`threads` = {threads}: the system started no such pool ({reason}). Pass threads=1")]
    Threads { threads: usize, reason: String },
}

impl Error {
    pub fn argument(
        argument: &'static str,
        expected: impl Into<String>,
        got: impl ToString,
        remedy: &'static str,
    ) -> Self {
        Self::Argument { argument, expected: expected.into(), got: got.to_string(), remedy }
    }

    pub fn entry(
        argument: &'static str,
        index: usize,
        expected: impl Into<String>,
        got: impl ToString,
        remedy: &'static str,
    ) -> Self {
        Self::Entry { argument, index, expected: expected.into(), got: got.to_string(), remedy }
    }
}
