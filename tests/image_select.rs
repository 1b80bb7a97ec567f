//! Which image a reference means, and how the disks of images are shared.

mod image_support;

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use boxlite::Code;
use boxlite::disk::overlay::{self, DiskFormat};
use boxlite::image::{Digest, DiskCache};
use image_support::*;
use serde_json::{Value, json};

fn layer(text: &str) -> Vec<(Vec<u8>, Pack)> {
    vec![(Layer::new().file("who", text.as_bytes()).finish(), Pack::Gzip)]
}

fn message(reference: &str) -> String {
    let error = resolve(reference).unwrap_err();
    assert_eq!(error.code(), Code::Image);
    error.message().to_owned()
}

fn label(image: &boxlite::image::Image) -> Option<&str> {
    image.config().labels.get("who").map(String::as_str)
}

fn labelled(layout: &Layout, who: &str, arch: &str) -> Value {
    layout.image(&layer(who), arch, json!({"Labels": {"who": who}}))
}

#[test]
fn a_tag_chooses_and_without_one_several_images_are_listed() {
    let mut layout = Layout::default();
    for tag in ["one", "two"] {
        let descriptor = labelled(&layout, tag, "amd64");
        layout.publish(descriptor, Some(tag));
    }
    let path = layout.path();
    let one = resolve(&format!("{path}:one")).unwrap();
    assert_eq!(label(&one), Some("one"));
    let two = resolve(&format!("oci:{path}:two")).unwrap();
    assert_eq!(label(&two), Some("two"));
    assert!(message(path).contains("one, two"));
    let missing = message(&format!("{path}:three"));
    assert!(missing.contains("three") && missing.contains("one, two"), "{missing}");
    assert!(message(&format!("docker-archive:{path}")).contains("directory"));
}

#[test]
fn the_platform_chooses_within_nested_indexes() {
    let mut layout = Layout::default();
    let platform = |mut d: Value, arch: &str, variant: Option<&str>| {
        d["platform"] = json!({"architecture": arch, "os": "linux"});
        if let Some(variant) = variant {
            d["platform"]["variant"] = json!(variant);
        }
        d
    };
    let mut attestation = labelled(&layout, "attestation", "unknown");
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let inner = json!({"schemaVersion": 2, "manifests": [
        platform(labelled(&layout, "v3", "amd64"), "amd64", Some("v3")),
        platform(labelled(&layout, "arm", "arm64"), "arm64", Some("v8")),
        platform(labelled(&layout, "plain", "amd64"), "amd64", None),
        attestation,
    ]});
    let kind = "application/vnd.oci.image.index.v1+json";
    let inner = layout.blob(kind, inner.to_string().as_bytes());
    let middle = json!({"schemaVersion": 2, "manifests": [inner]});
    let middle = layout.blob(kind, middle.to_string().as_bytes());
    layout.publish(middle, Some("multi"));
    assert_eq!(label(&resolve(layout.path()).unwrap()), Some("plain"));

    let mut other = Layout::default();
    let arm = platform(labelled(&other, "arm", "arm64"), "arm64", Some("v8"));
    other.publish(arm, None);
    let text = message(other.path());
    assert!(text.contains("linux/amd64") && text.contains("linux/arm64/v8"), "{text}");
    let mut unnamed = Layout::default();
    let arm = labelled(&unnamed, "arm", "arm64");
    unnamed.publish(arm, None);
    let text = message(unnamed.path());
    assert!(text.contains("linux/amd64") && text.contains("linux/arm64"), "{text}");
}

#[test]
fn bounds_and_missing_parts_are_named() {
    // An index that contains itself cannot be made; a chain of indexes can.
    let mut layout = Layout::default();
    let kind = "application/vnd.oci.image.index.v1+json";
    let mut at = labelled(&layout, "deep", "amd64");
    for _ in 0..6 {
        let index = json!({"schemaVersion": 2, "manifests": [at]});
        at = layout.blob(kind, index.to_string().as_bytes());
    }
    layout.publish(at, None);
    assert!(message(layout.path()).contains("nested"));

    let mut huge = Layout::default();
    let mut descriptor = labelled(&huge, "x", "amd64");
    descriptor["size"] = json!(5 << 20);
    huge.publish(descriptor, None);
    assert!(message(huge.path()).contains("at most"));

    let layout = Layout::of(&layer("x"));
    let image = resolve(layout.path()).unwrap();
    let blob = layout.blob_path(&image.layers()[0].digest.to_string());
    std::fs::remove_file(blob).unwrap();
    let error = try_make(layout.path(), 32 * MIB).err().unwrap();
    assert!(error.message().contains("missing"), "{error}");
    let config = layout.blob_path(&image.config_digest().to_string());
    std::fs::write(&config, vec![b' '; image.config_blob().len()]).unwrap();
    assert!(message(layout.path()).contains("damaged"));

    let mut many = Layout::default();
    let layers: Vec<_> = (0..600).map(|_| (Layer::new().finish(), Pack::Plain)).collect();
    let descriptor = many.image(&layers, "amd64", json!({}));
    many.publish(descriptor, None);
    assert!(message(many.path()).contains("600 layers"));

    let empty = tempfile::tempdir().unwrap();
    assert!(message(empty.path().to_str().unwrap()).contains("neither"));
    assert!(message("/nonexistent/image:1").contains("no such image"));
}

#[test]
fn sha512_blobs_are_verified_too() {
    let bytes = Layer::new().file("a", b"512").finish();
    let mut layout = Layout::default();
    let mut hasher = boxlite::image::Hasher::new(boxlite::image::Algorithm::Sha512);
    hasher.update(&bytes);
    let digest = hasher.finish().to_string();
    std::fs::write(layout.blob_path(&digest), &bytes).unwrap();
    let blob = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar",
        "digest": digest, "size": bytes.len()});
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&bytes).to_string()]}});
    let manifest = layout.manifest(&config.to_string(), &[blob]);
    layout.publish(manifest, None);
    try_make(layout.path(), 32 * MIB).unwrap();
    let mut damaged = bytes.clone();
    damaged[600] ^= 1;
    std::fs::write(layout.blob_path(&digest), damaged).unwrap();
    let error = try_make(layout.path(), 32 * MIB).err().unwrap();
    assert!(error.message().contains("expected digest sha512:"), "{error}");
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}");
}

#[test]
fn archives_of_every_kind_hold_the_same_image() {
    let layout = Layout::of(&layer("archived"));
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let source = format!("oci:{}:t", layout.path());
    let policy = ["--insecure-policy", "copy", "-q"];
    let docker = format!("docker-archive:{}:example/app:1", at("docker.tar"));
    run("skopeo", &[&policy[..], &[&source, &docker]].concat());
    let oci = format!("oci-archive:{}:t", at("oci.tar"));
    run("skopeo", &[&policy[..], &[&source, &oci]].concat());
    run("gzip", &["-k", &at("docker.tar")]);
    run("zstd", &["-q", "-k", &at("oci.tar"), "-o", &at("oci.tar.zst")]);
    let config = resolve(layout.path()).unwrap().config_digest().to_string();
    for reference in [
        at("docker.tar"),
        format!("{}:1", at("docker.tar")),
        format!("docker-archive:{}:example/app:1", at("docker.tar")),
        at("docker.tar.gz"),
        at("oci.tar"),
        format!("oci-archive:{}:t", at("oci.tar")),
        at("oci.tar.zst"),
    ] {
        let made = try_make(&reference, 32 * MIB).unwrap();
        let files = disk::read(&made.path);
        assert_eq!(files[&b"/who".to_vec()].data, b"archived", "{reference}");
        let image = resolve(&reference).unwrap();
        assert_eq!(image.layers().len(), 1);
        if !reference.contains("docker") {
            assert_eq!(image.config_digest().to_string(), config);
        }
    }
    assert!(message(&format!("{}:2", at("docker.tar"))).contains("example/app:1"));
    assert!(message(&format!("oci-archive:{}", at("docker.tar"))).contains("not an OCI layout"));
}

#[test]
fn a_hundred_callers_build_one_disk() {
    let layout = Layout::of(&layer("shared"));
    let home = tempfile::tempdir().unwrap();
    let cache = DiskCache::new(home.path().join("images"), home.path().join("locks"));
    let image = resolve(layout.path()).unwrap();
    let path = cache.disk_path(&image, 32 * MIB);
    // What a killed builder leaves.
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let leftover = path.with_file_name(format!(".{name}.abc.partial"));
    std::fs::write(&leftover, b"half").unwrap();
    let builds = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let mut mine = false;
                let made = cache.ensure_disk(&image, 32 * MIB, &[], &mut |p| {
                    mine = true;
                    go_on(p)
                });
                assert_eq!(made.unwrap(), path);
                builds.fetch_add(usize::from(mine), Ordering::Relaxed);
            });
        }
    });
    assert_eq!(builds.load(Ordering::Relaxed), 1);
    assert_eq!(names(path.parent().unwrap()), [name]);
    disk::check(&path);
    let other = cache.ensure_disk(&image, 64 * MIB, &[], &mut go_on).unwrap();
    assert_ne!(other, path);
    for (digest, bytes) in
        [(image.manifest_digest(), image.manifest()), (image.config_digest(), image.config_blob())]
    {
        assert_eq!(std::fs::read(cache.blob_path(digest)).unwrap(), bytes);
    }
}

#[test]
fn qemu_finds_nothing_wrong_with_an_overlay() {
    let made = make(&[Layer::new().file("a", b"b").finish()], 32 * MIB);
    let first = made.dir.path().join("first.qcow2");
    let second = made.dir.path().join("second.qcow2");
    overlay::create(&first, &made.path, DiskFormat::Raw, 10 << 30).unwrap();
    overlay::create(&second, &first, DiskFormat::Qcow2, 1 << 40).unwrap();
    for (path, backing, format, size) in
        [(&first, &made.path, "raw", 10u64 << 30), (&second, &first, "qcow2", 1 << 40)]
    {
        run("qemu-img", &["check", "-q", path.to_str().unwrap()]);
        let output = Command::new("qemu-img")
            .args(["info", "--output=json", path.to_str().unwrap()])
            .output()
            .unwrap();
        let info: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(info["virtual-size"], size);
        assert_eq!(info["cluster-size"], 65536);
        assert_eq!(info["backing-filename"], backing.to_str().unwrap());
        assert_eq!(info["backing-filename-format"], format);
    }
    let io = ["-c", "write -P 7 1M 1M", "-c", "read -P 7 1M 1M", second.to_str().unwrap()];
    run("qemu-io", &io);
    run("qemu-img", &["check", "-q", second.to_str().unwrap()]);
    let info = overlay::info(&second).unwrap();
    assert_eq!(info.backing_path, Some(first));
    // One that qemu-img made reads back as well, and so does an old version.
    for compat in ["1.1", "0.10"] {
        let theirs = made.dir.path().join(format!("theirs-{compat}.qcow2"));
        let theirs = theirs.to_str().unwrap();
        let options = format!("compat={compat}");
        let base = made.path.to_str().unwrap();
        run(
            "qemu-img",
            &["create", "-q", "-f", "qcow2", "-o", &options, "-F", "raw", "-b", base, theirs],
        );
        let info = overlay::info(std::path::Path::new(theirs)).unwrap();
        assert_eq!(info.virtual_size, 32 * MIB);
        assert_eq!(info.backing_path.as_deref(), Some(&*made.path));
        assert_eq!(info.backing_format.as_deref(), Some("raw"));
    }
}
