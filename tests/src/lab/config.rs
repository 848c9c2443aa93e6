//! What the suites of the whole mesh take from their environment.

/// Further words for `lateen lab up`, for example another mesh's programs.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
pub fn parts() -> String {
    std::env::var("LATEEN_TEST_PARTS").unwrap_or_default()
}
