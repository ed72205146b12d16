package recent_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ampora/ampora/edge/recent"
)

func TestValuesAreRememberedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := recent.NewMap[string, int](10)
		m.Put("a", 1, time.Minute)
		m.Put("a", 2, time.Hour)
		m.Put("b", 3, time.Minute)
		time.Sleep(2 * time.Minute)
		if v, found := m.Get("a"); !found || v != 2 {
			t.Errorf("the later value: %d, %v", v, found)
		}
		if v, found := m.Get("b"); found || v != 0 {
			t.Errorf("a value whose time is over: %d, %v", v, found)
		}
		m.Forget("a")
		if _, found := m.Get("a"); found {
			t.Error("what was forgotten is still there")
		}
	})
}

func TestTheValuesUsedLastStay(t *testing.T) {
	m := recent.NewMap[int, int](2)
	m.Put(1, 1, time.Hour)
	m.Put(2, 2, time.Hour)
	m.Get(1)
	m.Put(3, 3, time.Hour)
	for key, want := range map[int]bool{1: true, 2: false, 3: true} {
		if _, found := m.Get(key); found != want {
			t.Errorf("%d: %v", key, found)
		}
	}
}
