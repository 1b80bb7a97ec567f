package boxlite

// #include <boxlite.h>
import "C"

import (
	"context"
	"time"
)

// A Snapshot is what a box's disk was at one moment, kept under a name.
type Snapshot struct {
	ID        string    // unique, for ever
	BoxID     string    // the box whose disk it is
	Name      string    // unique among the snapshots of its box
	CreatedAt time.Time // in UTC, to the second
	// Parent is the name of the snapshot that the disk was based on when this one was made; empty if
	// there was none, or it was removed.
	Parent string
	// VirtualBytes is the size of the disk as the box sees it; 0 if its file cannot be read.
	VirtualBytes uint64
	// AllocatedBytes is what the snapshot's own file takes on the host: about what was written to the
	// disk since its parent.
	AllocatedBytes uint64
}

// CreateSnapshot keeps what the box's disk is now under a name: 1 to 255 bytes of UTF-8, no '/' and no
// '\', not beginning with '.', and of no other snapshot of the box. Nothing is copied, however much the
// disk holds.
//
// The file system of a box that runs is frozen for some tens of milliseconds: what its processes had
// written to files by then is in the snapshot, and whole; what they only have in memory is not. A box
// that is being started is waited for.
//
// Errors: ErrInvalidArgument (the name), ErrAlreadyExists, ErrInvalidState (the box is paused, or is
// being stopped), ErrTimeout (the file system did not come to rest within 5 s), ErrBusy (another program
// is changing the box), ErrResourceExhausted (the host's disk is full, or the box's disk consists of 64
// files already), ErrStorage, ErrNotFound (the box was removed). Nothing has changed then.
func (b *Box) CreateSnapshot(ctx context.Context, name string) (*Snapshot, error) {
	return b.snapshot(ctx, name, func(p *C.boxlite_box, name *C.char, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_snapshot_create(p, name, op, e)
	})
}

// ListSnapshots tells about the box's snapshots, in the order in which they were made.
func (b *Box) ListSnapshots(ctx context.Context) ([]Snapshot, error) {
	var list *C.boxlite_snapshot_list
	err := b.operate(ctx, func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_snapshot_list(p, op, e)
	}, func(op *C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_op_take_snapshot_list(op, &list, e)
	})
	if err != nil {
		return nil, err
	}
	defer C.boxlite_snapshot_list_free(list)
	snapshots := make([]Snapshot, C.boxlite_snapshot_list_count(list))
	for i := range snapshots {
		snapshots[i] = newSnapshot(C.boxlite_snapshot_list_get(list, C.size_t(i)))
	}
	return snapshots, nil
}

// GetSnapshot tells about the box's snapshot of this name. It is nil, and no error, if there is none.
// Error: ErrInvalidArgument (no snapshot can have this name).
func (b *Box) GetSnapshot(ctx context.Context, name string) (*Snapshot, error) {
	return b.snapshot(ctx, name, func(p *C.boxlite_box, name *C.char, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_snapshot_get(p, name, op, e)
	})
}

// RestoreSnapshot has the box's disk be what it was in a snapshot, in one step. The box must not run.
// What was written since is gone, unless another snapshot has it; all snapshots stay.
//
// Errors: ErrInvalidState (the box runs: stop it first), ErrNotFound (no such snapshot, or the box was
// removed), ErrInvalidArgument (no snapshot can have this name), ErrBusy (another program is changing
// the box), ErrResourceExhausted (the host's disk is full), ErrStorage (a file of the snapshot is missing
// or damaged). The disk is as it was then.
func (b *Box) RestoreSnapshot(ctx context.Context, name string) error {
	return b.onSnapshot(ctx, name, func(p *C.boxlite_box, name *C.char, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_snapshot_restore(p, name, op, e)
	}, nothing)
}

// RemoveSnapshot removes a snapshot. The box may run. What one other snapshot, or the disk, needs of it is
// merged into that, which takes as long as writing it.
//
// Errors: ErrNotFound (no such snapshot), ErrInvalidState (several disks are based on it, or one of another
// box: the message names them), ErrInvalidArgument (no snapshot can have this name), ErrBusy (another program is changing the
// box).
func (b *Box) RemoveSnapshot(ctx context.Context, name string) error {
	return b.onSnapshot(ctx, name, func(p *C.boxlite_box, name *C.char, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_snapshot_remove(p, name, op, e)
	}, nothing)
}

// startNamedFunc starts an operation on a box's snapshot of a name.
type startNamedFunc func(p *C.boxlite_box, name *C.char, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status

// onSnapshot runs an operation on a snapshot.
func (b *Box) onSnapshot(ctx context.Context, name string, start startNamedFunc, take takeFunc) error {
	var m memory
	defer m.free()
	cName := m.text("name", name)
	if m.err != nil {
		return m.err
	}
	return b.operate(ctx, func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return start(p, cName, op, e)
	}, take)
}

// snapshot runs an operation that results in a snapshot, or in none.
func (b *Box) snapshot(ctx context.Context, name string, start startNamedFunc) (*Snapshot, error) {
	var taken *C.boxlite_snapshot
	err := b.onSnapshot(ctx, name, start, func(op *C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_op_take_snapshot(op, &taken, e)
	})
	if err != nil || taken == nil {
		return nil, err
	}
	defer C.boxlite_snapshot_free(taken)
	snapshot := newSnapshot(taken)
	return &snapshot, nil
}

func newSnapshot(snapshot *C.boxlite_snapshot) Snapshot {
	return Snapshot{
		ID:             C.GoString(C.boxlite_snapshot_id(snapshot)),
		BoxID:          C.GoString(C.boxlite_snapshot_box_id(snapshot)),
		Name:           C.GoString(C.boxlite_snapshot_name(snapshot)),
		CreatedAt:      parseTime(C.boxlite_snapshot_created_at(snapshot)),
		Parent:         C.GoString(C.boxlite_snapshot_parent(snapshot)),
		VirtualBytes:   uint64(C.boxlite_snapshot_virtual_bytes(snapshot)),
		AllocatedBytes: uint64(C.boxlite_snapshot_allocated_bytes(snapshot)),
	}
}
