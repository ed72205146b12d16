package main

import (
	"math"
	"os"

	ampora "github.com/ampora/ampora/plugin"
	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/vault/sdk/helper/pluginutil"
	"github.com/hashicorp/vault/sdk/plugin"
	"google.golang.org/grpc"
)

// streamWorkers is how many goroutines wait for requests, with stacks that have grown to what a request takes. A new one for
// each request, which is gRPC's own way and what is done beyond that number, grows its stack anew.
const streamWorkers = 64

// protocol is the one that every Vault we support speaks: one process serves all mounts, over mutual TLS of Vault's making.
const protocol = 5

// serve is the SDK's plugin.ServeMultiplex with a gRPC server of our choice. It returns when Vault is done with the plugin.
func serve() error {
	// Vault takes the lines of standard error into its own log, with their levels.
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: os.Stderr, JSONFormat: true})
	if err := pluginutil.OptionallyEnableMlock(); err != nil {
		return err
	}
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig,
		VersionedPlugins: map[int]goplugin.PluginSet{protocol: {
			plugin.BackendPluginName: &plugin.GRPCBackendPlugin{Factory: ampora.Factory, MultiplexingSupport: true, Logger: logger},
		}},
		Logger: logger,
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts,
				grpc.MaxRecvMsgSize(math.MaxInt32), grpc.MaxSendMsgSize(math.MaxInt32), grpc.NumStreamWorkers(streamWorkers))...)
		},
	})
	return nil
}
