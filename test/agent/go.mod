module github.com/ampora/ampora/test/agent

go 1.26.0

require (
	github.com/google/uuid v1.6.0
	github.com/open-telemetry/opamp-go v0.24.0
)

require (
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	github.com/elastic/proxy-connect-dialer-go v0.1.1 // indirect
	github.com/gorilla/websocket v1.5.3 // indirect
	github.com/stretchr/testify v1.12.0 // indirect
	google.golang.org/protobuf v1.36.11 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)

// What opamp-go v0.24.0 asks for is not to be had from the module proxy; this is the same
// code under the name it had before, as v0.23.0 used it.
replace github.com/elastic/proxy-connect-dialer-go => github.com/michel-laterman/proxy-connect-dialer-go v0.1.0
