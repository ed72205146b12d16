package session

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// A clock that is an hour off, on the edge or where certificates are signed: whoever reads the answer knows that it is that.
func TestAClockThatIsAnHourOffIsTold(t *testing.T) {
	a := newAuthority(t)
	d := newTestDesk(t, a, &engine{answer: current})
	cert := a.leaf("018f3d2c-7d4e-8b6a-9c3f-0a1b2c3d4e5f", 1, time.Now().Add(30*time.Minute))
	caller := Caller{Transport: WebSocket, Source: netip.MustParseAddr("192.0.2.1"), Certificate: cert}
	for off, said := range map[time.Duration]string{0: "", -time.Hour: "this edge's clock says", time.Hour: "expired at"} {
		_, err := d.judgeLeaf(caller, d.Trust.Current(), time.Now().Add(off))
		if off == 0 {
			if err != nil {
				t.Errorf("with a good clock: %v", err)
			}
			continue
		}
		if apitype.CodeOf(err) != apitype.CertificateExpired || !strings.Contains(err.Error(), said) {
			t.Errorf("%s off: %v", off, err)
		}
	}
}
