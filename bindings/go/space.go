package boxlite

// #include <boxlite.h>
import "C"

import (
	"context"
	"fmt"
)

// A FileKind is what a file of disks is for.
type FileKind int32

const (
	FileBox      FileKind = C.BOXLITE_FILE_BOX      // a box's own disk: what was written since what it is based on
	FileSnapshot FileKind = C.BOXLITE_FILE_SNAPSHOT // a snapshot's
	FileBase     FileKind = C.BOXLITE_FILE_BASE     // disks are based on it, and it has no name of its own
	FileImage    FileKind = C.BOXLITE_FILE_IMAGE    // an image as a disk, shared by its boxes
	FileOrphan   FileKind = C.BOXLITE_FILE_ORPHAN   // nobody needs it, and Prune removes it
	FileUnknown  FileKind = C.BOXLITE_FILE_UNKNOWN  // of a box that the home does not know: it is left alone
)

func (k FileKind) String() string {
	names := [...]string{"box", "snapshot", "base", "image", "orphan", "unknown"}
	if k < 0 || int(k) >= len(names) {
		return fmt.Sprintf("FileKind(%d)", int32(k))
	}
	return names[k]
}

// A DiskFormat is what a disk's file is in.
type DiskFormat int32

const (
	DiskRaw   DiskFormat = C.BOXLITE_DISK_RAW   // the disk's bytes, and nothing else
	DiskQcow2 DiskFormat = C.BOXLITE_DISK_QCOW2 // QEMU's format, complete in one file
)

// A StoredFile is a file of disks, as it was when it was listed.
type StoredFile struct {
	Kind FileKind
	// Path is where it is, relative to the home.
	Path string
	// BoxID is the box in whose directory it is; empty if it is in none.
	BoxID string
	// Name is that of the snapshot that it is of; empty if it is of none.
	Name string
	// VirtualBytes is the size of the disk as a guest sees it; 0 if it is no disk that can be read.
	VirtualBytes uint64
	// AllocatedBytes is what the file takes on the host.
	AllocatedBytes uint64
}

// ListFiles lists the files of disks that the home has, by their paths: those of boxes, snapshots and
// images, what these are based on, and what nobody needs.
func (r *Runtime) ListFiles(ctx context.Context) ([]StoredFile, error) {
	return r.files(ctx, func(p *C.boxlite_runtime, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_runtime_list_files(p, op, e)
	})
}

// Prune removes the files of disks that nobody needs, or with dryRun finds out which these are, and returns
// them. Programs that died may leave such.
//
// Errors: ErrBusy (a program is changing which disks there are), ErrStorage.
func (r *Runtime) Prune(ctx context.Context, dryRun bool) ([]StoredFile, error) {
	return r.files(ctx, func(p *C.boxlite_runtime, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_runtime_prune(p, C.bool(dryRun), op, e)
	})
}

// GrowDisk makes the disk of a box that does not run larger, up to 16 TiB. The box's file system grows with it
// when it is started next; it cannot become smaller again. Snapshots stay as they are.
//
// Errors: ErrInvalidArgument (the size: no more than it has, or too much), ErrInvalidState (the box runs),
// ErrUnsupported (a disk that was made small cannot grow beyond 4 TiB before a snapshot is made), ErrBusy,
// ErrResourceExhausted. Nothing has changed then.
func (b *Box) GrowDisk(ctx context.Context, sizeMiB uint64) error {
	return b.operate(ctx, func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_grow_disk(p, C.uint64_t(sizeMiB), op, e)
	}, nothing)
}

// files runs an operation that results in files.
func (r *Runtime) files(ctx context.Context, start func(p *C.boxlite_runtime, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status) ([]StoredFile, error) {
	var list *C.boxlite_file_list
	err := r.operate(ctx, func(op **C.boxlite_op) error {
		return r.core.handle.call(func(p *C.boxlite_runtime, e **C.boxlite_error) C.boxlite_status {
			return start(p, op, e)
		})
	}, func(op *C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_op_take_file_list(op, &list, e)
	})
	if err != nil {
		return nil, err
	}
	defer C.boxlite_file_list_free(list)
	files := make([]StoredFile, C.boxlite_file_list_count(list))
	for i := range files {
		file := C.boxlite_file_list_get(list, C.size_t(i))
		files[i] = StoredFile{
			Kind:           FileKind(C.boxlite_stored_file_kind(file)),
			Path:           C.GoString(C.boxlite_stored_file_path(file)),
			BoxID:          C.GoString(C.boxlite_stored_file_box_id(file)),
			Name:           C.GoString(C.boxlite_stored_file_name(file)),
			VirtualBytes:   uint64(C.boxlite_stored_file_virtual_bytes(file)),
			AllocatedBytes: uint64(C.boxlite_stored_file_allocated_bytes(file)),
		}
	}
	return files, nil
}
