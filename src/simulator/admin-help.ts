/** The help text of the simulator's own API, for GET /simulator and `ec2-ipam simulate --help`. */
export const ADMIN_HELP = `The EC2 simulator: a VPC in memory that refuses what EC2 refuses.

  POST /            the EC2 Query API: set AWS_ENDPOINT_URL_EC2 to this address, and any key and secret
                    STS at the same address, which checks signatures: AWS_ENDPOINT_URL_STS
  /latest/…         IMDSv2 of one instance: set AWS_EC2_METADATA_SERVICE_ENDPOINT to this address
  /simulator/…      this: JSON in, JSON out, for tests and trials. No authentication: loopback only.

Look
  GET    /simulator/state                          everything: clock, subnets, instances, ENIs, faults
  GET    /simulator/calls                          how often each EC2 action was called
  GET    /simulator/journal?after=N                the changes after the first N; "next" is the N of the next call

Change the VPC. What EC2 refuses is refused. Ids, MACs and addresses that are left out are generated.
  POST   /simulator/subnets                        {"cidr":"10.0.3.0/24","id":…,"vpc":…,"zone":…,
                                                    "reservations":[{"cidr":"10.0.3.128/28","type":"prefix"}],
                                                    "owner":"123456789012","sharedWith":["210987654321"]}
  POST   /simulator/instances                      {"type":"m5.large","id":…,"zone":…,"role":…,"profile":…}
  PUT    /simulator/instances/ID/state             {"state":"running"}, "stopped" or "terminated"
  POST   /simulator/enis                           {"subnet":"subnet-…","id":…,"mac":…,"primary":…,"secondaries":[…],
                                                    "prefixes":["10.0.3.16/28"],"tags":{…},"interfaceType":"lambda",
                                                    "requesterManaged":true,"description":…,"owner":…,
                                                    "attachment":{"instance":"i-…","deviceIndex":1}};
                                                    "primary":null: one without an IPv4 address
  DELETE /simulator/enis/ID                        also one of an AWS service, as if by that service
  POST   /simulator/enis/ID/attach                 {"instance":"i-…","deviceIndex":1}
  POST   /simulator/enis/ID/detach                 {}
  PUT    /simulator/enis/ID/tags                   {"ec2-ipam:tenant":"red"}: its tags from now on
  POST   /simulator/enis/ID/assign                 {"ips":["10.0.1.20"]} or {"count":3}; "allowReassignment":true moves
  POST   /simulator/enis/ID/unassign               {"ips":["10.0.1.20"]}
  POST   /simulator/sessions                       {"role":…,"name":…,"account":…}: credentials of a role that somebody
                                                    assumed with a session name of their choice, for STS
  POST   /simulator/foreign                        {"subnet":"subnet-…","ip":"10.0.1.99"}: a load balancer takes it

Make it fail, from now on
  POST   /simulator/faults                         {"kind":…} with "action":"AssignPrivateIpAddresses", "eni":"eni-…",
                                                    "times":2, "chance":0.5 to strike only these calls:
           {"kind":"latency","ms":250}              the response is delayed
           {"kind":"error","code":…,"message":…}    refused, not applied
           {"kind":"throttle"}                      refused with RequestLimitExceeded
           {"kind":"lostReply"}                     applied, then the connection is closed; with "code" and
                                                    "message": applied, and the response is that error
           {"kind":"hang"}                          no response, not applied
           {"kind":"applyLate","ms":60000}          no response, applied so much later
           {"kind":"readLag","ms":5000}             reads return the state of so long ago
           With "action":"InstanceMetadata" a fault strikes only instance metadata; "code" is the HTTP status, such as
           "403", or "200" with an empty "message"
  DELETE /simulator/faults                         removes all faults
  PUT    /simulator/buckets                        {"scale":0.1}: a tenth of EC2's token buckets; null: no throttling
  PUT    /simulator/rights                         {"denied":["AssignPrivateIpAddresses"]}: refused, all others allowed;
                                                    a call with DryRun says which it is, and changes nothing
  PUT    /simulator/date                           {"aheadMs":-60000}: EC2's time of day, in responses and for signatures
  POST   /simulator/advance                        {"ms":330000}: sets the simulator's own clock forward

The description of a VPC (--world) has the same objects in lists: {"region":…,"subnets":[…],"instances":[…],"enis":[…],
"instanceTypes":{"tiny.one":{"enis":2,"addressesPerEni":2}}}
`;
