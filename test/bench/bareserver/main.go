// Command bareserver is what an edge is measured against: the server of opamp-go with mutual TLS and nothing else. It knows
// no tokens, no revocation and no bounds. It prints its address and runs until its standard input ends.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/open-telemetry/opamp-go/protobufs"
	"github.com/open-telemetry/opamp-go/server"
	"github.com/open-telemetry/opamp-go/server/types"
)

func main() {
	cert := flag.String("tls-cert", "", "server certificate")
	key := flag.String("tls-key", "", "its key")
	clientCA := flag.String("client-ca", "", "CA of the agents")
	flag.Parse()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with whoever started us
		os.Exit(0)
	}()
	log.Fatal(serve(*cert, *key, *clientCA))
}

func serve(certFile, keyFile, caFile string) error {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)

	connection := types.ConnectionCallbacks{OnMessage: answer}
	handle, connContext, err := server.New(nil).Attach(server.Settings{Callbacks: types.Callbacks{
		OnConnecting: func(*http.Request) types.ConnectionResponse {
			return types.ConnectionResponse{Accept: true, ConnectionCallbacks: connection}
		},
	}})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/opamp", handle)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	s := &http.Server{
		Handler: mux, ConnContext: connContext, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		},
	}
	return s.ServeTLS(listener, "", "")
}

// answer is as much as the edge says to a known agent.
func answer(_ context.Context, _ types.Connection, in *protobufs.AgentToServer) *protobufs.ServerToAgent {
	if in.AgentDescription == nil {
		return nil
	}
	return &protobufs.ServerToAgent{
		InstanceUid:  in.InstanceUid,
		Capabilities: uint64(protobufs.ServerCapabilities_ServerCapabilities_AcceptsStatus),
	}
}
