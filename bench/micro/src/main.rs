//! `lateen-micro`: does the operations that are counted; what runs it counts.
fn main() -> anyhow::Result<()> {
    lateen_micro::run(std::env::args().skip(1))
}
