// Command ampora is the newcomer's and the operator's tool: it enrols agents, looks at tokens and certificates, sets up a
// Vault, and runs a throw-away installation on one machine.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	return Main(ctx, os.Args[1:], &console.Console{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv})
}
