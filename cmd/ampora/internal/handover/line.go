package handover

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
)

// How often progress is shown: on a terminal, where a line is written over, and elsewhere.
const (
	soon  = 100 * time.Millisecond
	later = 5 * time.Second
)

// line shows how far a run is, beside its result.
type line struct {
	con      *console.Console
	terminal bool

	mu    sync.Mutex
	last  time.Time
	dirty bool // there is text on the terminal's line
}

func newLine(con *console.Console) *line {
	l := &line{con: con, last: time.Now()}
	if f, ok := con.Err.(*os.File); ok {
		info, err := f.Stat()
		l.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return l
}

// show shows it, unless it was shown a moment ago.
func (l *line) show(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pause := later
	if l.terminal {
		pause = soon
	}
	if time.Since(l.last) < pause {
		return
	}
	l.last = time.Now()
	if !l.terminal {
		l.con.Sayf(format, args...)
		return
	}
	fmt.Fprintf(l.con.Err, "\r\x1b[K"+format, args...)
	l.dirty = true
}

// end clears the line, so that something else can be written.
func (l *line) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dirty {
		fmt.Fprint(l.con.Err, "\r\x1b[K")
	}
	l.dirty = false
}
