package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// event is one line of output.
type event struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	// By is what the connection it is about was made with: "token" or "certificate".
	By          string `json:"by,omitempty"`
	AgentID     string `json:"agent_id,omitempty"`
	Serial      string `json:"serial,omitempty"`
	InstanceUID string `json:"instance_uid,omitempty"`
	Endpoint    string `json:"endpoint,omitempty"`
	ServerKey   bool   `json:"server_key,omitempty"` // the key came with the offer
	Heartbeat   uint64 `json:"heartbeat,omitempty"`  // seconds
	Body        string `json:"body,omitempty"`       // of a configuration
	Error       string `json:"error,omitempty"`
}

// What an event may be.
const (
	started       = "started"        // by what it will connect, with which identity
	connected     = "connected"      // the server has taken the connection (plain HTTP: one request)
	answered      = "answered"       // the server's first message on a client has come
	connectFailed = "connect_failed" //
	serverError   = "server_error"   // the server sent an error response
	offered       = "offer"          //
	rejected      = "rejected"       // the offer is of no use, or connecting with it failed
	saved         = "saved"          // the offer was verified and is the identity from now on
	configured    = "configured"     // a configuration has come
	renewing      = "renewing"       // it asks for a certificate for a new key
	renamed       = "renamed"        // the server gave another instance uid
	clientLog     = "log"            // what the client library has to say, such as how a connection ended
)

// reporter writes events.
type reporter struct {
	mu  sync.Mutex
	out io.Writer
}

func (r *reporter) tell(e event) {
	e.Time = time.Now()
	line, err := json.Marshal(e)
	if err != nil {
		panic(err) // there is nothing in it that could fail
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = r.out.Write(append(line, '\n')) // nobody reads any more if this fails
}

// logger is the client library's logger.
type logger struct {
	to *reporter
	by string
}

func (l logger) Debugf(context.Context, string, ...any) {}

func (l logger) Errorf(_ context.Context, format string, v ...any) {
	l.to.tell(event{Event: clientLog, By: l.by, Error: fmt.Sprintf(format, v...)})
}
