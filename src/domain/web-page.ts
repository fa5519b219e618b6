/** Keeps web pages away from servers on this machine: a browser sends requests to loopback for every page it shows. */
import { isLoopback } from './address.ts';
import { IpamError } from './error.ts';
import { shown } from './text.ts';

interface Headers {
  readonly origin?: string | undefined;
  readonly secFetchSite?: string | undefined;
  readonly host?: string | undefined;
}

/**
 * Returns the refusal of a request that a web page may have sent; null when none has. Browsers add `Origin` or
 * `Sec-Fetch-Site` to what a page sends, except to a plain-HTTP server that the page is from. A page becomes that by a
 * name of its own that its DNS later points at loopback. Then only `Host` tells: `onLoopback` says that it is to be
 * looked at, since the request came over plain HTTP to a loopback address. dockerd sends the address of the plugin.
 */
export function pageRefusal({ origin, secFetchSite, host }: Headers, onLoopback: boolean): IpamError | null {
  if (origin !== undefined || secFetchSite !== undefined)
    return new IpamError('bad-request', 'the request is from a web page, and pages are not served', {
      hint: 'send it without Origin and Sec-Fetch-Site',
    });
  if (!onLoopback || host === undefined || namesLoopback(host)) return null;
  return new IpamError('bad-request', `Host "${shown(host)}" is not a name of loopback`, {
    hint: 'call this server 127.0.0.1 or localhost, also in the plugin file of Docker',
  });
}

/** Whether the value of `Host` is a name of loopback that no DNS can give to another. RFC 6761 has `*.localhost`. */
export function namesLoopback(host: string): boolean {
  const [, bracketed, plain = ''] = /^(?:\[([^\]]*)\]|([^:]*))(?::\d{0,5})?$/.exec(host) ?? [];
  const name = (bracketed ?? plain).toLowerCase().replace(/\.$/, '');
  return isLoopback(name) || name.endsWith('.localhost');
}

/** Whether a socket's own address is loopback; IPv4 may be written as IPv6. */
export const isLoopbackSocket = (localAddress: string | undefined): boolean =>
  localAddress !== undefined && isLoopback(localAddress.replace(/^::ffff:/, ''));
