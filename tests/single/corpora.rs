//! What was once fed to the fuzz targets holds: their committed corpora, and what they found.

#[path = "../../fuzz/targets.rs"]
mod targets;

#[test]
fn inputs_that_a_fuzz_target_would_stop_at() {
    let corpora = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in targets::ALL {
        let mut inputs: Vec<_> = std::fs::read_dir(corpora.join(name))
            .unwrap_or_else(|error| panic!("{name} has no corpus: {error}"))
            .map(|entry| entry.expect("it can be listed").path())
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{name} has an empty corpus");
        for input in inputs {
            println!("{}", input.display());
            target(&std::fs::read(&input).expect("it can be read"));
        }
    }
}
