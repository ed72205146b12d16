package audit

import "github.com/google/uuid"

// Forget drops what memory knows of stored records, because the storage underneath was exchanged. A record that waited for
// Retell goes too: what it tells of was undone with the storage, or else its row still carries it. Sequences go on from
// where they were, so nothing is told before what was told already.
func (l *Log) Forget() {
	l.load.Lock() // a load that has begun has read the old keys
	defer l.load.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loaded, l.indexed = false, false
	l.index.reset()
	l.stored, l.uncertain, l.untold = map[uuid.UUID]struct{}{}, map[string]string{}, map[string]*Record{}
}
