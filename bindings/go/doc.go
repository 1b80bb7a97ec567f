// Package boxlite runs OCI images in boxes: real virtual machines, each with a kernel of its own.
//
// [Open] a [Runtime] on a home directory, [Runtime.Create] a [Box] from an image, and [Box.Exec] or
// [Box.Run] commands in it:
//
//	rt, err := boxlite.Open(boxlite.Options{})
//	...
//	defer rt.Close(ctx)
//	box, err := rt.Create(ctx, boxlite.BoxOptions{Image: "path/to/image"})
//	...
//	out, err := box.Run(ctx, boxlite.Command{Args: []string{"uname", "-a"}}, 1<<20)
//
// The package is a thin layer over libboxlite's C API; include/boxlite.h says in detail what each
// operation does.
//
// Goroutines. Everything may be used by any number of goroutines at once. What waits, waits as a
// goroutine and not as a thread. One goroutine per Runtime serves all of its objects.
//
// Contexts. Cancelling the context of a call cancels the work itself, not merely the wait, and the
// call returns the context's error once what was half done is undone. Work that was finished before
// the cancellation took effect counts as done, and its result is returned.
// The context of a command that is detached or followed is for its start only.
//
// Ownership. Close a Runtime when done; that closes everything that came from it, too. Box, Exec and
// Subscription can be closed on their own before that. All Close methods may be called again, and a
// method of something closed that can fail returns [ErrClosed]. The garbage collector frees what was
// forgotten, some time.
//
// Events. [Runtime.Subscribe] listens to what happens to boxes and commands. What waits there is
// limited, and holds up nothing.
//
// Errors. What the library refuses or fails at is an [*Error]; compare with [errors.Is] and the Code
// constants, such as [ErrNotFound].
package boxlite
