//! The rules of OCI layers.

use super::*;

fn put(tree: &mut ImageTree, path: &str) {
    let place = tree.place(&clean(path.as_bytes()).unwrap()).unwrap().unwrap();
    if path.ends_with('/') {
        let attributes = Attributes { mode: 0o700, ..Attributes::default() };
        tree.put_directory(&place, attributes).unwrap();
    } else {
        tree.put(&place, Attributes::default(), Kind::Fifo).unwrap();
    }
}

fn symlink(tree: &mut ImageTree, path: &str, target: &str) {
    let place = tree.place(&clean(path.as_bytes()).unwrap()).unwrap().unwrap();
    let kind = Kind::Symlink(target.as_bytes().into());
    tree.put(&place, Attributes::default(), kind).unwrap();
}

fn link(tree: &mut ImageTree, path: &str, target: &str) -> Result<()> {
    let place = tree.place(&clean(path.as_bytes()).unwrap())?.unwrap();
    let target = tree.find(&clean(target.as_bytes()).unwrap())?;
    tree.link(&place, &target.ok_or_else(|| refused("no target"))?)
}

fn whiteout(tree: &mut ImageTree, path: &str) {
    if let Some(place) = tree.find(&clean(path.as_bytes()).unwrap()).unwrap() {
        tree.whiteout(&place);
    }
}

fn opaque(tree: &mut ImageTree, path: &str) {
    let found = tree.find_directory(&clean(path.as_bytes()).unwrap()).unwrap();
    if let Some(id) = found {
        tree.make_opaque(id);
    }
}

/// All paths; directories with mode.
fn paths(tree: &ImageTree) -> Vec<String> {
    let mut all = Vec::new();
    let mut pending = vec![(String::new(), ROOT)];
    while let Some((path, id)) = pending.pop() {
        for (name, child) in tree.entries(id) {
            let path = format!("{path}{}", String::from_utf8_lossy(name));
            if tree.is_directory(child) {
                let mode = tree.node(child).attributes.mode;
                all.push(format!("{path}/{mode:o}"));
                pending.push((format!("{path}/"), child));
            } else {
                all.push(path);
            }
        }
    }
    all.sort();
    all
}

#[test]
fn a_whiteout_spares_its_own_layer_in_any_order() {
    let steps: [&dyn Fn(&mut ImageTree); 3] =
        [&|t| whiteout(t, "d"), &|t| put(t, "d/new"), &|t| put(t, "d/sub/new")];
    for order in [[0, 1, 2], [1, 0, 2], [1, 2, 0], [2, 0, 1]] {
        let mut tree = ImageTree::new();
        tree.begin_layer();
        put(&mut tree, "d/");
        put(&mut tree, "d/old");
        put(&mut tree, "d/sub/");
        put(&mut tree, "d/sub/old");
        tree.begin_layer();
        for step in order {
            steps[step](&mut tree);
        }
        let want = ["d/755", "d/new", "d/sub/755", "d/sub/new"];
        assert_eq!(paths(&tree), want, "{order:?}");
    }
}

#[test]
fn an_opaque_directory_keeps_itself_and_what_its_layer_brings() {
    for opaque_first in [true, false] {
        let mut tree = ImageTree::new();
        tree.begin_layer();
        put(&mut tree, "d/");
        put(&mut tree, "d/old");
        put(&mut tree, "d/deep/er/old");
        tree.begin_layer();
        if opaque_first {
            opaque(&mut tree, "d");
        }
        put(&mut tree, "d/");
        put(&mut tree, "d/deep/new");
        if !opaque_first {
            opaque(&mut tree, "d");
        }
        opaque(&mut tree, "d");
        assert_eq!(paths(&tree), ["d/700", "d/deep/755", "d/deep/new"]);
    }
}

#[test]
fn a_name_replaced_by_its_own_layer_is_not_whited_out() {
    let mut tree = ImageTree::new();
    tree.begin_layer();
    put(&mut tree, "f");
    put(&mut tree, "g");
    tree.begin_layer();
    put(&mut tree, "f");
    whiteout(&mut tree, "f");
    whiteout(&mut tree, "g");
    whiteout(&mut tree, "absent/absent");
    assert_eq!(paths(&tree), ["f"]);
}

#[test]
fn symbolic_links_lead_within_the_tree() {
    let mut tree = ImageTree::new();
    tree.begin_layer();
    put(&mut tree, "usr/lib/");
    symlink(&mut tree, "lib", "usr/lib");
    symlink(&mut tree, "usr/up", "../../../..");
    symlink(&mut tree, "etc", "/../private");
    tree.begin_layer();
    put(&mut tree, "lib/x");
    put(&mut tree, "usr/up/y");
    put(&mut tree, "etc/z");
    put(&mut tree, "../../w");
    let all = paths(&tree);
    for path in ["usr/lib/x", "y", "private/z", "w", "lib", "etc"] {
        assert!(all.iter().any(|p| p == path), "{path} in {all:?}");
    }
    symlink(&mut tree, "loop", "loop");
    let refused = tree.place(&[b"loop", b"x"]).unwrap_err();
    assert!(refused.message().contains("symbolic links"));
}

#[test]
fn hard_links_keep_a_node_until_its_last_name_goes() {
    let data = || {
        Kind::File(FileData {
            size: 1,
            extents: Box::new([crate::disk::ext4::Extent { logical: 0, len: 1, start: 9 }]),
        })
    };
    let mut tree = ImageTree::new();
    tree.begin_layer();
    let place = tree.place(&[b"a"]).unwrap().unwrap();
    tree.put(&place, Attributes::default(), data()).unwrap();
    tree.begin_layer();
    link(&mut tree, "d/b", "a").unwrap();
    link(&mut tree, "c", "d/b").unwrap();
    link(&mut tree, "c", "a").unwrap();
    whiteout(&mut tree, "a");
    assert!(tree.take_released().is_empty());
    let id = tree.name(&Place { directory: ROOT, name: (*b"c").into() }).unwrap().id;
    assert_eq!(tree.node(id).links, 2);
    put(&mut tree, "c");
    put(&mut tree, "d");
    assert_eq!(tree.take_released().len(), 1);
    assert!(link(&mut tree, "e", "nothing").is_err());
    put(&mut tree, "dir/");
    assert!(link(&mut tree, "e", "dir").is_err());
}

#[test]
fn a_path_through_a_file_makes_it_a_directory() {
    let mut tree = ImageTree::new();
    tree.begin_layer();
    put(&mut tree, "a");
    tree.begin_layer();
    put(&mut tree, "a/b");
    assert_eq!(paths(&tree), ["a/755", "a/b"]);
    put(&mut tree, "a");
    assert_eq!(paths(&tree), ["a"]);
    assert_eq!(tree.slots.iter().flatten().count(), 2);
}
