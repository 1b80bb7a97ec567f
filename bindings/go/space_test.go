package boxlite

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestDisksGrowAndFilesAreListed(t *testing.T) {
	ctx := within(t)
	home := t.TempDir()
	runtime := openWith(t, Options{Home: home})
	box, err := runtime.Create(ctx, BoxOptions{Image: busybox(), DiskMiB: 64})
	ok(t, err)
	defer box.Close()
	says(t, box, "echo kept > /file; sync", "")
	fails(t, box.GrowDisk(ctx, 500), ErrInvalidState, "stop it first")
	ok(t, box.Stop(ctx, time.Second))
	fails(t, box.GrowDisk(ctx, 64), ErrInvalidArgument, "64 MiB")
	ok(t, box.GrowDisk(ctx, 500))
	says(t, box, "cat /file; df -m / | awk 'NR == 2 { print ($2 > 400) }'", "kept\n1\n")
	ok(t, box.Stop(ctx, time.Second))
	makes(t, box, "kept")

	kinds := map[FileKind]StoredFile{}
	files, err := runtime.ListFiles(ctx)
	ok(t, err)
	for _, file := range files {
		kinds[file.Kind] = file
	}
	if len(files) != 3 || kinds[FileBox].VirtualBytes != 500<<20 || kinds[FileSnapshot].Name != "kept" ||
		kinds[FileSnapshot].BoxID != box.ID() || kinds[FileImage].AllocatedBytes == 0 || FileImage.String() != "image" {
		t.Fatalf("%+v", files)
	}
	ok(t, os.WriteFile(filepath.Join(home, "bases", "lost.qcow2"), []byte("nothing"), 0o600))
	for _, dryRun := range []bool{true, false, false} {
		pruned, err := runtime.Prune(ctx, dryRun)
		ok(t, err)
		if len(pruned) > 1 || len(pruned) == 1 && pruned[0].Path != "bases/lost.qcow2" {
			t.Fatalf("%+v", pruned)
		}
	}
	if _, err := os.Stat(filepath.Join(home, "bases", "lost.qcow2")); !os.IsNotExist(err) {
		t.Fatal(err)
	}

	// A disk that was made elsewhere: here, an image's.
	copied, err := runtime.Create(ctx, BoxOptions{Disk: filepath.Join(home, kinds[FileImage].Path), DiskFormat: DiskRaw})
	ok(t, err)
	defer copied.Close()
	says(t, copied, "echo works", "works\n")
	_, err = runtime.Create(ctx, BoxOptions{Disk: filepath.Join(home, kinds[FileImage].Path), DiskFormat: DiskQcow2})
	fails(t, err, ErrStorage, "magic number")
}
