// Boots a box from an image, runs a command in it, prints its output as it comes, and exits with its
// code.
//
//	hello IMAGE [COMMAND [ARGUMENT...]]
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	boxlite "github.com/boxlite/libboxlite/bindings/go"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: hello IMAGE [COMMAND [ARGUMENT...]]")
		os.Exit(125)
	}
	code, err := hello(context.Background(), os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		code = 125
	}
	os.Exit(code)
}

func hello(ctx context.Context, image string, args []string) (code int, err error) {
	rt, err := boxlite.Open(boxlite.Options{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rt.Close(ctx)) }()

	box, err := rt.Create(ctx, boxlite.BoxOptions{Image: image})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rt.Remove(ctx, box.ID(), true)) }()

	if err := box.Start(ctx); err != nil {
		return 0, err
	}
	info, err := box.Inspect(ctx)
	if err != nil {
		return 0, err
	}
	for _, stage := range info.Stages {
		fmt.Fprintf(os.Stderr, "start: %-12s %v\n", stage.Name, stage.Duration)
	}

	exec, err := box.Exec(ctx, boxlite.Command{Args: args})
	if err != nil {
		return 0, err
	}
	stdout, stderr := exec.Stdout(), exec.Stderr()
	copied := make(chan error)
	go func() {
		_, err := io.Copy(os.Stderr, stderr)
		copied <- err
	}()
	_, outErr := io.Copy(os.Stdout, stdout)
	if err := errors.Join(outErr, <-copied); err != nil {
		return 0, err
	}
	status, err := exec.Wait(ctx)
	if err != nil {
		return 0, err
	}
	fmt.Fprintln(os.Stderr, "hello:", status)
	return status.Code, nil
}
