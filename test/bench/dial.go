package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ampora/ampora/edge/problem"
	"github.com/cenkalti/backoff/v4"
	"github.com/gorilla/websocket"
)

// answerTime is how long an agent waits for a handshake and for an answer.
const answerTime = 20 * time.Second

// refusal is what an upgrade came back with when it was not let in.
type refusal struct {
	code  string // of the error catalogue, or the status of something else
	after time.Duration
}

func (r *refusal) Error() string { return "refused: " + r.code }

func refusalOf(resp *http.Response) *refusal {
	r := &refusal{code: resp.Status}
	var doc problem.Document
	if json.NewDecoder(resp.Body).Decode(&doc) == nil && strings.HasPrefix(doc.Type, problem.TypePrefix) {
		r.code = strings.TrimPrefix(doc.Type, problem.TypePrefix)
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		r.after = time.Duration(seconds) * time.Second
	}
	return r
}

// dial opens a WebSocket. A server that refuses gives a *refusal.
func (f *fleet) dial(url string, config *tls.Config, header http.Header) (*websocket.Conn, error) {
	config.RootCAs, config.MinVersion = f.roots, tls.VersionTLS13
	d := websocket.Dialer{TLSClientConfig: config, HandshakeTimeout: answerTime}
	conn, resp, err := d.DialContext(context.Background(), url, header)
	if err != nil && resp != nil {
		err = refusalOf(resp)
	}
	return conn, err
}

// ask says something and waits for the answer.
func ask(conn *websocket.Conn, message []byte, patience time.Duration) ([]byte, error) {
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if err := conn.WriteMessage(websocket.BinaryMessage, message); err != nil {
		return nil, err
	}
	_, answer, err := conn.ReadMessage()
	_ = conn.SetReadDeadline(time.Time{})
	return answer, err
}

// insist tries until it works or the patience is over, with the pauses of opamp-go's client: the first try at once, then
// longer and longer ones of 0.5 s and more, and never shorter than a refusal says. failed hears of each failure.
func insist(ctx context.Context, try func() error, failed func(error)) error {
	growing := backoff.NewExponentialBackOff(backoff.WithMaxElapsedTime(0))
	for {
		err := try()
		if err == nil {
			return nil
		}
		failed(err)
		pause := growing.NextBackOff()
		if r, refused := errors.AsType[*refusal](err); refused {
			pause = max(pause, r.after)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("given up: %w", err)
		case <-time.After(pause):
		}
	}
}
