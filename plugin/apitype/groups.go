package apitype

// GroupRequest makes a group or changes the fields that are set.
type GroupRequest struct {
	Configuration *string `json:"configuration,omitempty"` // name of a configuration; empty for none
	Description   *string `json:"description,omitempty"`
	RenewProof    *string `json:"renew_proof,omitempty"` // key or edge, before config.renew_proof; empty for that
}

// Group is where agents land; it gives them a configuration.
type Group struct {
	Name          string `json:"name"`
	Tenant        string `json:"tenant"`
	Configuration string `json:"configuration"`
	Description   string `json:"description"`
	RenewProof    string `json:"renew_proof"`
	CreatedAt     string `json:"created_at"`
	UpdatedAt     string `json:"updated_at"`
}

// MaxConfigurationBody is the largest body of a configuration in bytes. Vault takes no string over 1 MiB.
const MaxConfigurationBody = 512 << 10

// ConfigurationRequest makes a configuration or changes the fields that are set.
type ConfigurationRequest struct {
	Body        *string `json:"body,omitempty"`
	ContentType *string `json:"content_type,omitempty"` // default text/yaml
	Description *string `json:"description,omitempty"`
}

// Configuration is a named remote-config body. Body is left out of lists.
type Configuration struct {
	Name        string `json:"name"`
	Tenant      string `json:"tenant"`
	ContentType string `json:"content_type"`
	Description string `json:"description"`
	Hash        string `json:"hash"`    // SHA-256 of content type and body, lower-case hex
	Version     int64  `json:"version"` // 1, and one more with each change of body or content type
	Size        int64  `json:"size"`    // of the body in bytes
	Body        string `json:"body,omitempty"`
	CreatedAt   string `json:"created_at"`
	UpdatedAt   string `json:"updated_at"`
}
