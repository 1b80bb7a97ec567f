// Connects a command in a box with this program's own stdin, stdout and stderr: both ways at once,
// at the pace of whoever is slowest. An interrupt, or the end of the time that it was given, kills
// the command.
//
//	stream [-timeout DURATION] IMAGE COMMAND [ARGUMENT...]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	boxlite "github.com/boxlite/libboxlite/bindings/go"
)

func main() {
	timeout := flag.Duration("timeout", time.Hour, "how long the command may take")
	flag.Parse()
	if flag.NArg() < 2 {
		fmt.Fprintln(os.Stderr, "usage: stream [-timeout DURATION] IMAGE COMMAND [ARGUMENT...]")
		os.Exit(125)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	code, err := stream(ctx, *timeout, flag.Arg(0), flag.Args()[1:])
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		fmt.Fprintln(os.Stderr, "stream: the command was killed after", *timeout)
		code = 124
	case errors.Is(err, context.Canceled):
		code = 130
	case err != nil:
		fmt.Fprintln(os.Stderr, "stream:", err)
		code = 125
	}
	os.Exit(code)
}

func stream(ctx context.Context, timeout time.Duration, image string, args []string) (code int, err error) {
	rt, err := boxlite.Open(boxlite.Options{})
	if err != nil {
		return 0, err
	}
	// What has to be put away is put away, interrupted or not.
	always := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, rt.Close(always)) }()

	box, err := rt.Create(ctx, boxlite.BoxOptions{Image: image})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rt.Remove(always, box.ID(), true)) }()
	if err := box.Start(ctx); err != nil {
		return 0, err
	}

	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	exec, err := box.Exec(limited, boxlite.Command{Args: args, Stdin: true})
	if err != nil {
		return 0, err
	}
	stdin, stdout, stderr := exec.Stdin(), exec.Stdout(), exec.Stderr()
	go func() {
		// It is no fault of ours if the command does not read it all.
		_, _ = io.Copy(stdin, os.Stdin)
		stdin.Close()
	}()
	var outputs sync.WaitGroup
	outputs.Add(2)
	go func() {
		defer outputs.Done()
		_, _ = io.Copy(os.Stdout, stdout)
		stdout.Close()
	}()
	go func() {
		defer outputs.Done()
		_, _ = io.Copy(os.Stderr, stderr)
		stderr.Close()
	}()
	status, err := exec.Wait(ctx)
	outputs.Wait()
	return status.Code, err
}
