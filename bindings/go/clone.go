package boxlite

// #include <boxlite.h>
import "C"

import "context"

// CloneOptions say what a clone begins with, and what it is called. The zero value is what the disk is
// now, and no name.
type CloneOptions struct {
	// Snapshot is the name of the snapshot that the clone begins with. Unless set: what the disk is now.
	Snapshot string
	// Name is the clone's name, which no other box of the home has; none unless set.
	Name string
}

// ClonesOptions say what clones begin with, and how many there are to be: either Names or Count is set.
type ClonesOptions struct {
	// Snapshot is the name of the snapshot that the clones begin with. Unless set: what the disk is now.
	Snapshot string
	// Names are the names of the clones, 1 to 1000, each another, and of no other box of the home. A
	// clone whose name is empty has none.
	Names []string
	// Count is how many clones without names are made, 1 to 1000.
	Count int
}

// Clone makes a box that begins with what this one's disk is now, or was in a snapshot. It has this
// box's options, and an id, a host name and a machine id of its own; from then on, each has its own
// disk. Nothing is copied, however much that holds, and nothing runs yet. What the clone is based on
// stays until it is removed, also when this box is.
//
// This box may run: it goes on, and its file system is frozen for some tens of milliseconds, as for
// [Box.CreateSnapshot]. Once the clone is being made, the context's end does not stop that.
//
// Errors: ErrAlreadyExists (the name), ErrInvalidArgument (a name that none can have), ErrNotFound (the
// snapshot, or this box was removed), and those of [Box.CreateSnapshot]. Nothing has been made then.
func (b *Box) Clone(ctx context.Context, options CloneOptions) (*Box, error) {
	clones, err := b.clones(ctx, options.Snapshot, "Name", []string{options.Name}, 1)
	if err != nil {
		return nil, err
	}
	return clones[0], nil
}

// Clones makes several clones at once, in the order of their names: all or, on an error, none. They
// share what they begin with. Otherwise as [Box.Clone].
//
// Errors: those of [Box.Clone], ErrInvalidArgument (a name is there twice; both Names and Count are set,
// or neither; more than 1000).
func (b *Box) Clones(ctx context.Context, options ClonesOptions) ([]*Box, error) {
	count := options.Count
	if len(options.Names) > 0 {
		if count != 0 {
			return nil, invalid("Count", "must not be set together with Names")
		}
		count = len(options.Names)
	}
	if count < 0 {
		return nil, invalid("Count", "must not be negative")
	}
	return b.clones(ctx, options.Snapshot, "Names", options.Names, count)
}

// clones makes clones; field is what the caller has the names in. No names at all are as many without.
func (b *Box) clones(ctx context.Context, snapshot, field string, names []string, count int) ([]*Box, error) {
	var m memory
	defer m.free()
	cSnapshot := m.optional("Snapshot", snapshot)
	cNames := m.optionals(field, names)
	if m.err != nil {
		return nil, m.err
	}
	var taken []*C.boxlite_box
	err := b.operate(ctx, func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_clone(p, cSnapshot, cNames, C.size_t(count), op, e)
	}, func(op *C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		for range count {
			var ptr *C.boxlite_box
			if status := C.boxlite_op_take_box(op, &ptr, e); status != C.BOXLITE_OK {
				return status
			}
			taken = append(taken, ptr)
		}
		return nothing(op, e)
	})
	// Each has an owner before anything else may go wrong.
	var clones []*Box
	for _, ptr := range taken {
		clone, failure := b.runtime.adopt(ptr)
		if failure != nil {
			err = failure
			continue
		}
		clones = append(clones, clone)
	}
	if err != nil {
		return nil, err
	}
	return clones, nil
}
