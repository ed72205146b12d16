package servercert

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Files follow a certificate, its key and the CA file on disk.
type Files struct {
	Certificate, Key string
	CA               string // a path, or SystemRoots
	Holder           *Holder
	Logger           hclog.Logger
	Every            time.Duration // between two looks; default 5 s
}

// Load reads the files now. On an error the certificate in use stays.
func (f *Files) Load() error {
	c, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return fmt.Errorf("servercert: %w", err)
	}
	roots, err := readRoots(f.CA)
	if err != nil {
		return err
	}
	if err := verifies(&c, roots); err != nil {
		return fmt.Errorf("servercert: %s does not verify %s, agents would not come back: %w", f.CA, f.Certificate, err)
	}
	f.Holder.set(&c, roots)
	return nil
}

// Run loads the files again whenever one of them has changed, until ctx ends.
func (f *Files) Run(ctx context.Context) {
	if f.Every <= 0 {
		f.Every = 5 * time.Second
	}
	tick := time.NewTicker(f.Every)
	defer tick.Stop()
	seen := f.state()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := f.state()
		if now == seen {
			continue
		}
		seen = now
		if err := f.Load(); err != nil {
			f.Logger.Warn("the changed server certificate is not taken, going on with the old one", "error", err)
			seen = "" // certificate and key are written one after the other: look again
			continue
		}
		f.Logger.Info("server certificate reloaded", "not_after", f.Holder.NotAfter())
	}
}

// state changes when a file does.
func (f *Files) state() string {
	var text string
	for _, path := range []string{f.Certificate, f.Key, f.CA} {
		if info, err := os.Stat(path); err == nil {
			text += fmt.Sprintf("%d/%d ", info.ModTime().UnixNano(), info.Size())
		}
	}
	return text
}
