package boxlite

// #include <boxlite.h>
import "C"

import "context"

// ExportOptions say what of a box an archive is to have. The zero value is the disk as it is now.
type ExportOptions struct {
	// Snapshot is the name of the snapshot whose disk the archive is to have; the box may run then.
	// Unless set: what the disk is now.
	Snapshot string
	// WithSnapshots tells that the archive is to have all snapshots of the box too. Not together with
	// Snapshot.
	WithSnapshots bool
	// Progress is told how far the export is, in bytes of disks, every few MiB and at the end; nobody
	// unless set. It is called by the goroutine that exports, may do anything, also cancel the context,
	// and gets the latest if it is slow.
	Progress func(Progress)
}

// ImportOptions say what is to become of an archive. The zero value is a box of the name that it had,
// with nothing that concerns the host.
type ImportOptions struct {
	// Name is the box's name, which no other box of the home has. Unless set: the one that it had.
	Name string
	// NoName tells that the box is to have no name. Not together with Name.
	NoName bool
	// Trusted tells that the archive may bring with it what concerns the host: paths, published ports,
	// and how far the box is shut off. Only for archives that nobody else can have changed.
	Trusted bool
	// Progress is told how far the import is, in bytes of the archive; otherwise as that of
	// [ExportOptions].
	Progress func(Progress)
}

// Export writes the box into one file, its archive: to path, where nothing is yet, or into the directory
// path as NAME.boxlite, with the box's name or, if it has none, "box". Directories on the way are made.
// It returns the file's path. The box stays as it is; one that runs goes on, and the archive has what its disk
// was at one moment. Cancelled, it leaves no file behind.
//
// An archive has disk, options and image configuration of the box; all environment variables too.
// Nothing in it is secret to who has it.
//
// Errors: ErrAlreadyExists (the file), ErrInvalidState (the box is paused, or is being stopped),
// ErrNotFound (the snapshot, or the box was removed), ErrInvalidArgument (an empty path; a snapshot and
// all of them), ErrBusy (another program is changing the box), ErrResourceExhausted (there is no room),
// ErrStorage.
func (b *Box) Export(ctx context.Context, path string, options ExportOptions) (string, error) {
	var written string
	err := options.c(path, func(path *C.char, o *C.boxlite_export_options) error {
		return b.follow(ctx, func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_box_export(p, path, o, op, e)
		}, takeText(&written), options.Progress)
	})
	return written, err
}

// Import makes a box of an archive that [Box.Export] has written, here or elsewhere. Archives may come
// from strangers: all of it is read and checked before there is a box. Nothing runs yet. Cancelled, it
// leaves nothing behind.
//
// Errors: ErrNotFound (no such file), ErrInvalidArgument (it is no archive, damaged, not all there, or
// says of itself what is not so), ErrUnsupported (its version, or disks with features that boxes' disks
// do not have), ErrAlreadyExists (the name), ErrResourceExhausted (there is no room), ErrStorage.
func (r *Runtime) Import(ctx context.Context, path string, options ImportOptions) (*Box, error) {
	var box *Box
	err := options.c(path, func(path *C.char, o *C.boxlite_import_options) error {
		var err error
		box, err = r.box(ctx, func(op **C.boxlite_op) error {
			return r.core.handle.call(func(p *C.boxlite_runtime, e **C.boxlite_error) C.boxlite_status {
				return C.boxlite_box_import(p, path, o, op, e)
			})
		}, options.Progress)
		return err
	})
	return box, err
}

// c makes the path and the options that C knows, for f to use.
func (o *ExportOptions) c(path string, f func(*C.char, *C.boxlite_export_options) error) error {
	var s setter
	defer s.free()
	var options *C.boxlite_export_options
	cPath := s.memory.text("path", path)
	s.set(func(e **C.boxlite_error) C.boxlite_status { return C.boxlite_export_options_new(&options, e) })
	defer func() { C.boxlite_export_options_free(options) }()

	s.text("Snapshot", o.Snapshot, func(text *C.char, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_export_options_set_snapshot(options, text, e)
	})
	s.set(func(e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_export_options_set_with_snapshots(options, C.bool(o.WithSnapshots), e)
	})
	if s.err != nil {
		return s.err
	}
	return f(cPath, options)
}

// c makes the path and the options that C knows, for f to use.
func (o *ImportOptions) c(path string, f func(*C.char, *C.boxlite_import_options) error) error {
	if o.NoName && o.Name != "" {
		return invalid("NoName", "must not be set together with Name")
	}
	var s setter
	defer s.free()
	var options *C.boxlite_import_options
	cPath := s.memory.text("path", path)
	s.set(func(e **C.boxlite_error) C.boxlite_status { return C.boxlite_import_options_new(&options, e) })
	defer func() { C.boxlite_import_options_free(options) }()

	s.text("Name", o.Name, func(text *C.char, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_import_options_set_name(options, text, e)
	})
	if o.NoName {
		s.set(func(e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_import_options_set_name(options, nil, e)
		})
	}
	s.set(func(e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_import_options_set_trusted(options, C.bool(o.Trusted), e)
	})
	if s.err != nil {
		return s.err
	}
	return f(cPath, options)
}
