//! The C header: generated, current, and what its readers expect of it.

use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn generate() -> String {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    let bindings = cbindgen::Builder::new().with_crate(root()).with_config(config).generate();
    let mut text = Vec::new();
    bindings.unwrap().write(&mut text);
    String::from_utf8(text).unwrap()
}

/// `BOXLITE_UPDATE_HEADER=1 cargo test --test header` writes the header anew.
#[test]
fn the_header_is_what_the_source_says() {
    let path = root().join("include/boxlite.h");
    let generated = generate();
    if std::env::var_os("BOXLITE_UPDATE_HEADER").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == generated, "include/boxlite.h is stale: run `make header`");
}

#[test]
fn the_headers_version_is_the_librarys() {
    let header = generate();
    let version = env!("CARGO_PKG_VERSION");
    assert!(header.contains(&format!("#define BOXLITE_VERSION \"{version}\"\n")));
    let numbers: Vec<&str> = version.split('.').collect();
    for (name, number) in ["MAJOR", "MINOR", "PATCH"].iter().zip(numbers) {
        assert!(header.contains(&format!("#define BOXLITE_VERSION_{name} {number}\n")));
    }
}

#[test]
fn the_header_names_nothing_but_boxlite() {
    for line in generate().lines().filter(|l| l.starts_with("typedef") && !l.starts_with("//")) {
        assert!(line.contains("boxlite_"), "{line}");
    }
}
