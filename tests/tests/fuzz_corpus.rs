//! The fuzz targets as ordinary tests: every file of the corpus, and a bounded number of its mutations.
//!
//! In: `tests/fuzz/corpus/<target>/`. Out: a failure with the bytes, ready to become a file of the corpus.
//! Absent on purpose: coverage; `make fuzz` has it.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::{fs, panic::catch_unwind, path::PathBuf};

use rand::{Rng, RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use targets::{ALL, Target};

/// Mutations of each target; together they take a few seconds.
const MUTATIONS: usize = 20_000;
/// Longer inputs only cost time.
const BYTES_MAX: usize = 4_096;
/// Bytes at which decoders change their mind: lengths, signs, separators, protobuf tags.
const TELLING: &[u8] =
    &[0, 1, 0x0a, 0x12, 0x1a, 0x20, 0x22, 0x2c, 0x2f, 0x3a, 0x3b, 0x3d, 0x5b, 0x5d, 0x7f, 0x80, 0xc0, 0xff];

fn fuzz_directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let directory = fuzz_directory().join("corpus").join(target.name);
    let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a file")).collect()
}

/// Runs one input; a panic is told with everything needed to see it again.
fn run(target: &Target, bytes: &[u8], origin: &str) {
    if catch_unwind(|| (target.run)(bytes)).is_err() {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{}: {origin} fails; the bytes, for a file of the corpus (xxd -r -p): {hex}", target.name);
    }
}

#[test]
fn every_target_has_a_corpus_and_a_program() {
    for target in ALL {
        let files = corpus(target);
        assert!(
            files.len() >= 2,
            "{}: the corpus holds {} files; add one good and one bad input",
            target.name,
            files.len()
        );
        let program = fuzz_directory().join("fuzz_targets").join(format!("{}.rs", target.name));
        assert!(program.exists(), "{} is missing", program.display());
    }
    let programs = fs::read_dir(fuzz_directory().join("fuzz_targets")).expect("a directory").count();
    assert_eq!(programs, ALL.len(), "every program is in ALL");
}

#[test]
fn the_corpus_and_its_mutations_are_read_without_panic() {
    let seed: u64 = rand::rng().random();
    let mut rng = StdRng::seed_from_u64(seed);
    for target in ALL {
        let files = corpus(target);
        run(target, &[], "the empty input");
        files.iter().for_each(|bytes| run(target, bytes, "a file of the corpus"));
        for at in 0..MUTATIONS {
            let bytes = mutated(&mut rng, &files);
            run(target, &bytes, &format!("mutation {at} of seed {seed}"));
        }
    }
}

fn mutated(rng: &mut StdRng, files: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = files.choose(rng).cloned().unwrap_or_default();
    for _ in 0..rng.random_range(1..=6) {
        mutate(rng, &mut bytes, files);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn mutate(rng: &mut StdRng, bytes: &mut Vec<u8>, files: &[Vec<u8>]) {
    let at = rng.random_range(0..=bytes.len());
    let end = rng.random_range(at..=bytes.len());
    match rng.random_range(0..7) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => bytes.insert(at, byte(rng)),
        3 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        4 => {
            let other = files.choose(rng).cloned().unwrap_or_default();
            let from = rng.random_range(0..=other.len());
            bytes.splice(at..end, other[from..].iter().copied());
        }
        5 => {
            if let Some(place) = bytes.get_mut(at) {
                *place ^= 1 << rng.random_range(0..8);
            }
        }
        _ => {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte(rng);
            }
        }
    }
}

fn byte(rng: &mut impl Rng) -> u8 {
    if rng.random_bool(0.5) { *TELLING.choose(rng).expect("not empty") } else { rng.random() }
}
