package enroll

import "time"

// IssuePatiently makes requests for one token wait for each other for as long as it takes.
func (e *Enroller) IssuePatiently() { e.singles().Patience = time.Hour }

// WaitingToIssue is how many requests for one token wait to be written together.
func (e *Enroller) WaitingToIssue() int { return e.singles().Waiting() }
