package session

import (
	"testing"
	"time"
)

// A second session that is there while the older one speaks is told; one that came for a moment is not.
func TestOnlyASessionThatStaysIsSharing(t *testing.T) {
	a, e := newAuthority(t), &engine{answer: current}
	d := newTestDesk(t, a, e, func(o *Options) { o.Timing.Rival = time.Millisecond })
	cert := a.leaf("018f3d2c-7d4e-8b6a-9c3f-0a1b2c3d4e5f", 1, time.Now().Add(time.Hour))
	older, _ := d.mustAdmit(t, cert, WebSocket)
	speak := func(m *member) {
		time.Sleep(5 * time.Millisecond)
		m.Message(t.Context(), Message{InstanceUID: "018f3d2c-7d4e-7b6a-9c3f-0a1b2c3d4e5f"})
	}
	speak(older)
	visitor, _ := d.mustAdmit(t, cert, WebSocket)
	visitor.Closed()
	speak(older)
	if older.shared {
		t.Error("a visitor counts")
	}
	newer, _ := d.mustAdmit(t, cert, WebSocket)
	speak(newer)
	if newer.shared {
		t.Error("the newer session tells of itself")
	}
	speak(older)
	if !older.shared {
		t.Error("two live sessions are not told")
	}
	eventually(t, "the engine hears of it", func() bool {
		for _, r := range e.seen() {
			if r.Shared && r.Since != 0 {
				return true
			}
		}
		return false
	})
}
