// Command vault-plugin-secrets-ampora is the secrets engine as Vault starts it. It serves the engine and nothing else;
// "--version" prints the version under which it must be registered.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
)

// gcPercent is how far the heap grows between collections, in percent of what is in use. That is some ten megabytes, and with
// Go's 100 collecting it took an eighth of the processor time under load. GOGC in the plugin's environment overrides it.
const gcPercent = 400

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	meta := &api.PluginAPIClientMeta{} // the flags that every plugin of Vault takes; we need none of them
	flags := meta.FlagSet()
	flags.Init("vault-plugin-secrets-ampora", flag.ContinueOnError)
	version := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *version {
		fmt.Println("vault-plugin-secrets-ampora", apitype.Version)
		return 0
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := serve(); err != nil {
		// Vault reads the plugin's standard error as log lines; this is the one that says why it is gone.
		hclog.Default().Error("the plugin ends", "error", err)
		return 1
	}
	return 0
}
