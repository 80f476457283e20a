"""What is in the programs and libraries of the simulated file system: the segments of their ELF files.

The geometry is that of Debian 12's packages (`readelf -lW` and `-d` of each file), for from it follow the lines
of /proc/PID/maps, the sizes in VSZ and the shares of RssFile and RssAnon. A record: name (a library's soname),
path, file size, kind, number of program headers, entry point, length of the relro part; then its segments as
offset:address:bytes in the file:bytes in memory:protection; then, behind ">", the libraries it needs. Numbers but
the file size and the number of headers are hexadecimal.

`static` is a small statically linked C program; a name that is not in the table runs as that.

Linux: the file format is read by fs/binfmt_elf.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from mmfs.arch import ARM64_64K, I386_PAE, X86_64
from mmfs.kernel import elf_images_aarch64, elf_images_i386
from mmfs.mm.mman import PROT_EXEC, PROT_READ, PROT_WRITE
from mmfs.mm_types import PAGE_SIZE

ELF_IMAGES: Final = """
bash /usr/bin/bash 1265648 dyn 13 31750 3510
  0:0:2ed48:2ed48:r 2f000:2f000:c0b9d:c0b9d:rx f0000:f0000:37f44:37f44:r 128af0:128af0:bc74:16cf0:rw
  > libtinfo.so.6 libc.so.6
busybox /usr/bin/busybox 1984808 exec 10 40ebf0 68f8
  0:400000:5c8:5c8:r 1000:401000:183989:183989:rx 185000:585000:55e38:55e38:r 1da708:5db708:9008:10798:rw
cat /usr/bin/cat 44016 dyn 13 3130 3d0
  0:0:1720:1720:r 2000:2000:4da9:4da9:rx 7000:7000:20e8:20e8:r 9c30:ac30:650:7e8:rw
  > libc.so.6
dash /usr/bin/dash 125640 dyn 13 4760 11d0
  0:0:36d8:36d8:r 4000:4000:12bb9:12bb9:rx 17000:17000:5864:5864:r 1ce30:1de30:1410:4140:rw
  > libc.so.6
dbus-daemon /usr/bin/dbus-daemon 244288 dyn 13 b390 1550
  0:0:8740:8740:r 9000:9000:226f1:226f1:rx 2c000:2c000:d3e4:d3e4:r 39ab0:3aab0:1704:1dc8:rw
  > libdbus-1.so.3 libsystemd.so.0 libexpat.so.1 libselinux.so.1 libaudit.so.1 libcap-ng.so.0 libapparmor.so.1
  > libc.so.6
dd /usr/bin/dd 89240 dyn 13 4430 310
  0:0:1c10:1c10:r 2000:2000:d119:d119:rx 10000:10000:46f0:46f0:r 14cf0:15cf0:638:ac8:rw
  > libc.so.6
python3.11 /usr/bin/python3.11 6809944 exec 13 60a790 238
  0:400000:1e468:1e468:r 1f000:41f000:2afe49:2afe49:rx 2cf000:6cf000:2700a0:2700a0:r 53fdc8:940dc8:13df90:182db0:rw
  > libm.so.6 libz.so.1 libexpat.so.1 libc.so.6
sleep /usr/bin/sleep 43888 dyn 13 2600 2f0
  0:0:14a0:14a0:r 2000:2000:4609:4609:rx 7000:7000:1e30:1e30:r 9d10:9d10:4f0:6b0:rw
  > libc.so.6
static /usr/bin/static 682696 exec 10 401550 3928
  0:400000:518:518:r 1000:401000:77d01:77d01:rx 79000:479000:26fbc:26fbc:r a06d8:4a06d8:5b98:b3c8:rw
udevadm /usr/bin/udevadm 1353288 dyn 14 1c960 2a280
  0:0:18c10:18c10:r 19000:19000:b9205:b9205:rx d3000:d3000:4b5e0:4b5e0:r 11ed80:11fd80:2ae20:2b870:rw
  > libkmod.so.2 libacl.so.1 libblkid.so.1 libcap.so.2 libselinux.so.1 libc.so.6 ld-linux-x86-64.so.2
postgres /usr/lib/postgresql/15/bin/postgres 9007080 dyn 13 155f30 207b0
  0:0:cd580:cd580:r ce000:ce000:5341d9:5341d9:rx 603000:603000:25be68:25be68:r 85f850:85f850:3527a:67250:rw
  > libzstd.so.1 liblz4.so.1 libxml2.so.2 libpam.so.0 libssl.so.3 libcrypto.so.3 libgssapi_krb5.so.2 libz.so.1
  > libm.so.6 libldap-2.5.so.0 libicui18n.so.72 libicuuc.so.72 libsystemd.so.0 libc.so.6
systemd /usr/lib/systemd/systemd 92544 dyn 13 9fc0 f70
  0:0:54b0:54b0:r 6000:6000:90ed:90ed:rx 10000:10000:4ed4:4ed4:r 15090:15090:f80:1250:rw
  > libsystemd-core-252.so libsystemd-shared-252.so libc.so.6
systemd-journald /usr/lib/systemd/systemd-journald 170496 dyn 13 8c20 15d0
  0:0:66c8:66c8:r 7000:7000:16bc9:16bc9:rx 1e000:1e000:8bdc:8bdc:r 27a30:27a30:165c:1670:rw
  > libsystemd-shared-252.so libselinux.so.1 libc.so.6
systemd-logind /usr/lib/systemd/systemd-logind 281096 dyn 14 10340 47d0
  0:0:b2f8:b2f8:r c000:c000:22321:22321:rx 2f000:2f000:100fc:100fc:r 3f830:40830:4820:4840:rw
  > libsystemd-shared-252.so libc.so.6 ld-linux-x86-64.so.2
systemd-timesyncd /usr/lib/systemd/systemd-timesyncd 55520 dyn 13 44b0 e90
  0:0:2c10:2c10:r 3000:3000:5a65:5a65:rx 9000:9000:2d08:2d08:r c170:c170:e98:ec0:rw
  > libsystemd-shared-252.so libm.so.6 libc.so.6
ld-linux-x86-64.so.2 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 215000 dyn 9 1ab70 1700
  0:0:d58:d58:r 1000:1000:25111:25111:rx 27000:27000:9c7c:9c7c:r 31900:31900:2810:29d8:rw
libacl.so.1 /usr/lib/x86_64-linux-gnu/libacl.so.1.1.2301 38832 dyn 9 0 408
  0:0:1760:1760:r 2000:2000:42c9:42c9:rx 7000:7000:10ec:10ec:r 8bf8:9bf8:410:438:rw
  > libc.so.6
libapparmor.so.1 /usr/lib/x86_64-linux-gnu/libapparmor.so.1.8.4 80600 dyn 9 0 5a0
  0:0:2f78:2f78:r 3000:3000:8021:8021:rx c000:c000:6084:6084:r 12a60:13a60:8d0:920:rw
  > libc.so.6
libaudit.so.1 /usr/lib/x86_64-linux-gnu/libaudit.so.1.0.0 128952 dyn 9 0 830
  0:0:2d50:2d50:r 3000:3000:6ff1:6ff1:rx a000:a000:1463c:1463c:r 1e7d0:1f7d0:848:10900:rw
  > libcap-ng.so.0 libc.so.6
libblkid.so.1 /usr/lib/x86_64-linux-gnu/libblkid.so.1.1.0 355328 dyn 10 0 5b90
  0:0:8ed8:8ed8:r 9000:9000:352d9:352d9:rx 3f000:3f000:10530:10530:r 50470:50470:5f58:62c8:rw
  > libc.so.6 ld-linux-x86-64.so.2
libc.so.6 /usr/lib/x86_64-linux-gnu/libc.so.6 1926232 dyn 14 27410 3730
  0:0:25388:25388:r 26000:26000:1550fc:1550fc:rx 17c000:17c000:52c31:52c31:r 1cf8d0:1cf8d0:4f98:12680:rw
  > ld-linux-x86-64.so.2
libcap-ng.so.0 /usr/lib/x86_64-linux-gnu/libcap-ng.so.0.0.0 30704 dyn 10 0 430
  0:0:1420:1420:r 2000:2000:2cc5:2cc5:rx 5000:5000:d48:d48:r 6bd0:6bd0:438:470:rw
  > libc.so.6 ld-linux-x86-64.so.2
libcap.so.2 /usr/lib/x86_64-linux-gnu/libcap.so.2.66 47128 dyn 11 7590 9c0
  0:0:28d0:28d0:r 3000:3000:48e1:48e1:rx 8000:8000:1c28:1c28:r a640:a640:9f0:a08:rw
  > libc.so.6
libcom_err.so.2 /usr/lib/x86_64-linux-gnu/libcom_err.so.2.1 18344 dyn 10 0 398
  0:0:10f0:10f0:r 2000:2000:db5:db5:rx 3000:3000:4d4:4d4:r 3c68:4c68:3a8:3e0:rw
  > libc.so.6 ld-linux-x86-64.so.2
libcrypt.so.1 /usr/lib/x86_64-linux-gnu/libcrypt.so.1.1.0 206776 dyn 9 0 5b0
  0:0:1360:1360:r 2000:2000:15345:15345:rx 18000:18000:198c8:198c8:r 31a50:32a50:5b8:8858:rw
  > libc.so.6
libcrypto.so.3 /usr/lib/x86_64-linux-gnu/libcrypto.so.3 4742424 dyn 9 0 611b0
  0:0:c4be8:c4be8:r c5000:c5000:27e709:27e709:rx 344000:344000:ddaf0:ddaf0:r 421e50:422e50:636d8:66760:rw
  > libc.so.6
libdbus-1.so.3 /usr/lib/x86_64-linux-gnu/libdbus-1.so.3.32.4 346264 dyn 9 0 1750
  0:0:d340:d340:r e000:e000:2f56d:2f56d:rx 3e000:3e000:14390:14390:r 528b0:538b0:17f8:1a20:rw
  > libsystemd.so.0 libc.so.6
libestr.so.0 /usr/lib/x86_64-linux-gnu/libestr.so.0.0.0 14176 dyn 9 0 298
  0:0:ac0:ac0:r 1000:1000:e05:e05:rx 2000:2000:6c8:6c8:r 2d68:3d68:2a0:2a8:rw
  > libc.so.6
libexpat.so.1 /usr/lib/x86_64-linux-gnu/libexpat.so.1.8.10 186472 dyn 9 0 1eb0
  0:0:3520:3520:r 4000:4000:1db9d:1db9d:rx 22000:22000:8324:8324:r 2b150:2b150:1f29:1f38:rw
  > libc.so.6
libfastjson.so.4 /usr/lib/x86_64-linux-gnu/libfastjson.so.4.3.0 55648 dyn 9 0 3b0
  0:0:2050:2050:r 3000:3000:641d:641d:rx a000:a000:1cf0:1cf0:r cc50:cc50:56c:580:rw
  > libc.so.6
libffi.so.8 /usr/lib/x86_64-linux-gnu/libffi.so.8.1.2 43480 dyn 9 0 390
  0:0:18b8:18b8:r 2000:2000:5929:5929:rx 8000:8000:1130:1130:r 9c70:ac70:52c:9f8:rw
  > libc.so.6
libgcc_s.so.1 /usr/lib/x86_64-linux-gnu/libgcc_s.so.1 125312 dyn 9 0 250
  0:0:2c78:2c78:r 3000:3000:168d1:168d1:rx 1a000:1a000:330c:330c:r 1ddb0:1edb0:3e0:518:rw
  > libc.so.6
libgcrypt.so.20 /usr/lib/x86_64-linux-gnu/libgcrypt.so.20.4.1 1332480 dyn 9 0 4930
  0:0:ea70:ea70:r f000:f000:e92b1:e92b1:rx f9000:f9000:431b8:431b8:r 13c6d0:13d6d0:8640:8c20:rw
  > libgpg-error.so.0 libc.so.6
libgmp.so.10 /usr/lib/x86_64-linux-gnu/libgmp.so.10.4.1 529216 dyn 9 0 730
  0:0:af18:af18:r b000:b000:5c2c9:5c2c9:rx 68000:68000:16bb8:16bb8:r 7f8d0:7f8d0:1288:12d8:rw
  > libc.so.6
libgnutls.so.30 /usr/lib/x86_64-linux-gnu/libgnutls.so.30.34.3 2209528 dyn 10 0 10f40
  0:0:36308:36308:r 37000:37000:134589:134589:rx 16c000:16c000:9b2f4:9b2f4:r 2080c0:2080c0:12e00:16290:rw
  > libp11-kit.so.0 libidn2.so.0 libunistring.so.2 libtasn1.so.6 libnettle.so.8 libhogweed.so.6 libgmp.so.10
  > libc.so.6 ld-linux-x86-64.so.2
libgpg-error.so.0 /usr/lib/x86_64-linux-gnu/libgpg-error.so.0.33.1 157768 dyn 9 0 8f8
  0:0:4288:4288:r 5000:5000:159c9:159c9:rx 1b000:1b000:a320:a320:r 25708:26708:94c:ac8:rw
  > libc.so.6
libgssapi_krb5.so.2 /usr/lib/x86_64-linux-gnu/libgssapi_krb5.so.2.2 338680 dyn 9 0 13f8
  0:0:b8f8:b8f8:r c000:c000:35249:35249:rx 42000:42000:cd0c:cd0c:r 4fc08:4fc08:26b8:28f8:rw
  > libkrb5.so.3 libk5crypto.so.3 libcom_err.so.2 libkrb5support.so.0 libc.so.6
libhogweed.so.6 /usr/lib/x86_64-linux-gnu/libhogweed.so.6.6 292856 dyn 9 0 1590
  0:0:87f8:87f8:r 9000:9000:12ccd:12ccd:rx 1c000:1c000:299f4:299f4:r 45a70:46a70:1598:15a0:rw
  > libnettle.so.8 libgmp.so.10 libc.so.6
libicudata.so.72 /usr/lib/x86_64-linux-gnu/libicudata.so.72.1 31262256 dyn 8 0 1d8
  0:0:400:400:r 1000:1000:105:105:rx 2000:2000:1dcde04:1dcde04:r 1dcfe28:1dd0e28:1e0:1e8:rw
libicui18n.so.72 /usr/lib/x86_64-linux-gnu/libicui18n.so.72.1 3307688 dyn 9 0 10450
  0:0:f2558:f2558:r f3000:f3000:192751:192751:rx 286000:286000:9094f:9094f:r 316bb0:317bb0:10500:11768:rw
  > libicuuc.so.72 libstdc++.so.6 libm.so.6 libgcc_s.so.1 libc.so.6
libicuuc.so.72 /usr/lib/x86_64-linux-gnu/libicuuc.so.72.1 2078888 dyn 9 0 12a10
  0:0:68d40:68d40:r 69000:69000:f0579:f0579:rx 15a000:15a000:8df45:8df45:r 1e85f0:1e85f0:12a28:14ca0:rw
  > libicudata.so.72 libstdc++.so.6 libm.so.6 libgcc_s.so.1 libc.so.6 ld-linux-x86-64.so.2
libidn2.so.0 /usr/lib/x86_64-linux-gnu/libidn2.so.0.3.8 198776 dyn 9 0 4d0
  0:0:1950:1950:r 2000:2000:6f79:6f79:rx 9000:9000:25b48:25b48:r 2fb30:2fb30:558:568:rw
  > libunistring.so.2 libc.so.6
libip4tc.so.2 /usr/lib/x86_64-linux-gnu/libip4tc.so.2.0.0 35280 dyn 9 0 470
  0:0:1708:1708:r 2000:2000:3315:3315:rx 6000:6000:100c:100c:r 7b90:8b90:6a0:6b0:rw
  > libc.so.6
libk5crypto.so.3 /usr/lib/x86_64-linux-gnu/libk5crypto.so.3.1 183048 dyn 9 0 ef0
  0:0:3ae0:3ae0:r 4000:4000:19cd5:19cd5:rx 1e000:1e000:c534:c534:r 2b110:2b110:11c0:11c8:rw
  > libkrb5support.so.0 libc.so.6
libkeyutils.so.1 /usr/lib/x86_64-linux-gnu/libkeyutils.so.1.10 22448 dyn 9 0 378
  0:0:1738:1738:r 2000:2000:1295:1295:rx 4000:4000:878:878:r 4c88:5c88:380:388:rw
  > libc.so.6
libkmod.so.2 /usr/lib/x86_64-linux-gnu/libkmod.so.2.4.0 112696 dyn 9 0 7f0
  0:0:34d0:34d0:r 4000:4000:10071:10071:rx 15000:15000:5364:5364:r 1a810:1b810:838:840:rw
  > libzstd.so.1 liblzma.so.5 libcrypto.so.3 libc.so.6
libkrb5.so.3 /usr/lib/x86_64-linux-gnu/libkrb5.so.3.3 888080 dyn 9 0 cd20
  0:0:22108:22108:r 23000:23000:5ede9:5ede9:rx 82000:82000:47184:47184:r c92e0:ca2e0:f1f8:f4c0:rw
  > libk5crypto.so.3 libcom_err.so.2 libkrb5support.so.0 libkeyutils.so.1 libresolv.so.2 libc.so.6
libkrb5support.so.0 /usr/lib/x86_64-linux-gnu/libkrb5support.so.0.1 52224 dyn 9 0 2d8
  0:0:2de0:2de0:r 3000:3000:5d89:5d89:rx 9000:9000:22a8:22a8:r bd28:cd28:6a0:840:rw
  > libc.so.6
liblber-2.5.so.0 /usr/lib/x86_64-linux-gnu/liblber-2.5.so.0.1.8 63832 dyn 9 0 5a8
  0:0:2f28:2f28:r 3000:3000:7235:7235:rx b000:b000:2c40:2c40:r ea58:ea58:6b8:748:rw
  > libc.so.6
libldap-2.5.so.0 /usr/lib/x86_64-linux-gnu/libldap-2.5.so.0.1.8 380432 dyn 9 0 1d38
  0:0:f0e8:f0e8:r 10000:10000:38f11:38f11:rx 49000:49000:10c80:10c80:r 5a2c8:5a2c8:2358:4898:rw
  > liblber-2.5.so.0 libsasl2.so.2 libgnutls.so.30 libc.so.6
liblz4.so.1 /usr/lib/x86_64-linux-gnu/liblz4.so.1.9.4 149952 dyn 9 0 2d0
  0:0:2570:2570:r 3000:3000:1d441:1d441:rx 21000:21000:2938:2938:r 23d30:24d30:4a8:4b0:rw
  > libc.so.6
liblzma.so.5 /usr/lib/x86_64-linux-gnu/liblzma.so.5.4.1 190456 dyn 9 0 bb8
  0:0:3390:3390:r 4000:4000:1ce9d:1ce9d:rx 21000:21000:bd94:bd94:r 2d448:2d448:bc0:bd0:rw
  > libc.so.6
libm.so.6 /usr/lib/x86_64-linux-gnu/libm.so.6 911904 dyn 11 0 2c8
  0:0:f5c0:f5c0:r 10000:10000:733e1:733e1:rx 84000:84000:59a94:59a94:r ddd38:ded38:3cc:3d8:rw
  > libc.so.6 ld-linux-x86-64.so.2
libmount.so.1 /usr/lib/x86_64-linux-gnu/libmount.so.1.1.0 404096 dyn 10 0 1e50
  0:0:b2b8:b2b8:r c000:c000:3fea9:3fea9:rx 4c000:4c000:134d8:134d8:r 601b0:601b0:2098:2408:rw
  > libblkid.so.1 libselinux.so.1 libc.so.6 ld-linux-x86-64.so.2
libnettle.so.8 /usr/lib/x86_64-linux-gnu/libnettle.so.8.6 317544 dyn 9 0 1df8
  0:0:c288:c288:r d000:d000:26471:26471:rx 34000:34000:16b70:16b70:r 4b208:4b208:1e70:1e78:rw
  > libc.so.6
libp11-kit.so.0 /usr/lib/x86_64-linux-gnu/libp11-kit.so.0.3.0 1261376 dyn 10 0 a1c0
  0:0:2ace0:2ace0:r 2b000:2b000:98085:98085:rx c4000:c4000:5af60:5af60:r 11fe40:11fe40:138c8:13ec8:rw
  > libffi.so.8 libc.so.6 ld-linux-x86-64.so.2
libpam.so.0 /usr/lib/x86_64-linux-gnu/libpam.so.0.85.1 67584 dyn 9 0 630
  0:0:2688:2688:r 3000:3000:8555:8555:rx c000:c000:32e8:32e8:r f9d0:109d0:63c:640:rw
  > libaudit.so.1 libc.so.6
libpcre2-8.so.0 /usr/lib/x86_64-linux-gnu/libpcre2-8.so.0.11.2 629384 dyn 9 0 310
  0:0:1f48:1f48:r 2000:2000:6afd5:6afd5:rx 6d000:6d000:2ae28:2ae28:r 98cf0:98cf0:5b0:698:rw
  > libc.so.6
libresolv.so.2 /usr/lib/x86_64-linux-gnu/libresolv.so.2 60328 dyn 11 0 a50
  0:0:2838:2838:r 3000:3000:7f31:7f31:rx b000:b000:1dc4:1dc4:r d5b0:d5b0:c90:3478:rw
  > libc.so.6
libsasl2.so.2 /usr/lib/x86_64-linux-gnu/libsasl2.so.2.0.25 113392 dyn 9 0 600
  0:0:2b20:2b20:r 3000:3000:11011:11011:rx 15000:15000:54c4:54c4:r 1aa00:1ba00:900:9e8:rw
  > libc.so.6
libseccomp.so.2 /usr/lib/x86_64-linux-gnu/libseccomp.so.2.5.4 129312 dyn 9 0 930
  0:0:18a8:18a8:r 2000:2000:d539:d539:rx 10000:10000:de2c:de2c:r 1e6d0:1e6d0:a68:a90:rw
  > libc.so.6
libselinux.so.1 /usr/lib/x86_64-linux-gnu/libselinux.so.1 174312 dyn 10 0 a48
  0:0:6600:6600:r 7000:7000:1a785:1a785:rx 22000:22000:754c:754c:r 295b8:2a5b8:ab0:3118:rw
  > libpcre2-8.so.0 libc.so.6 ld-linux-x86-64.so.2
libssl.so.3 /usr/lib/x86_64-linux-gnu/libssl.so.3 688160 dyn 9 0 97f0
  0:0:1e9b0:1e9b0:r 1f000:1f000:5cff1:5cff1:rx 7c000:7c000:1e7a8:1e7a8:r 9a810:9b810:d020:d060:rw
  > libcrypto.so.3 libc.so.6
libstdc++.so.6 /usr/lib/x86_64-linux-gnu/libstdc++.so.6.0.30 2190440 dyn 10 0 a758
  0:0:98e60:98e60:r 99000:99000:1005c9:1005c9:rx 19a000:19a000:6ebd9:6ebd9:r 2098a8:2098a8:c968:ffd8:rw
  > libm.so.6 libc.so.6 ld-linux-x86-64.so.2 libgcc_s.so.1
libsystemd.so.0 /usr/lib/x86_64-linux-gnu/libsystemd.so.0.35.0 844736 dyn 10 0 ad30
  0:0:15860:15860:r 16000:16000:7e835:7e835:rx 95000:95000:2d230:2d230:r c22d0:c32d0:b7d0:c280:rw
  > libcap.so.2 libgcrypt.so.20 liblzma.so.5 libzstd.so.1 liblz4.so.1 libc.so.6 ld-linux-x86-64.so.2
libtasn1.so.6 /usr/lib/x86_64-linux-gnu/libtasn1.so.6.6.3 83968 dyn 9 0 cf0
  0:0:2ac8:2ac8:r 3000:3000:be89:be89:rx f000:f000:36d8:36d8:r 13310:13310:cfc:f18:rw
  > libc.so.6
libtinfo.so.6 /usr/lib/x86_64-linux-gnu/libtinfo.so.6.4 204088 dyn 9 0 37b0
  0:0:e0a0:e0a0:r f000:f000:103e1:103e1:rx 20000:20000:d7e8:d7e8:r 2d850:2e850:3c5c:40f0:rw
  > libc.so.6
libunistring.so.2 /usr/lib/x86_64-linux-gnu/libunistring.so.2.2.0 1792040 dyn 9 0 3810
  0:0:113a0:113a0:r 12000:12000:3fd01:3fd01:rx 52000:52000:15e938:15e938:r 1b17f0:1b17f0:3898:4118:rw
  > libc.so.6
libuuid.so.1 /usr/lib/x86_64-linux-gnu/libuuid.so.1.3.0 34872 dyn 10 0 3f0
  0:0:1488:1488:r 2000:2000:401d:401d:rx 7000:7000:b1c:b1c:r 7c10:8c10:3f8:418:rw
  > libc.so.6 ld-linux-x86-64.so.2
libwrap.so.0 /usr/lib/x86_64-linux-gnu/libwrap.so.0.7.6 47976 dyn 9 0 608
  0:0:28d8:28d8:r 3000:3000:4169:4169:rx 8000:8000:1b18:1b18:r a9f8:a9f8:a1c:f48:rw
  > libc.so.6
libxml2.so.2 /usr/lib/x86_64-linux-gnu/libxml2.so.2.9.14 1750104 dyn 9 0 8818
  0:0:2e9e0:2e9e0:r 2f000:2f000:11bff9:11bff9:rx 14b000:14b000:559a4:559a4:r 1a17e8:1a17e8:947c:a5e0:rw
  > libicuuc.so.72 libz.so.1 liblzma.so.5 libm.so.6 libc.so.6
libz.so.1 /usr/lib/x86_64-linux-gnu/libz.so.1.2.13 121280 dyn 9 0 390
  0:0:2280:2280:r 3000:3000:1200d:1200d:rx 16000:16000:63c8:63c8:r 1cc70:1dc70:518:520:rw
  > libc.so.6
libzstd.so.1 /usr/lib/x86_64-linux-gnu/libzstd.so.1.5.4 763816 dyn 9 0 7f0
  0:0:41c8:41c8:r 5000:5000:a03f1:a03f1:rx a6000:a6000:13050:13050:r b9810:ba810:7f8:830:rw
  > libc.so.6
libsystemd-core-252.so /usr/lib/x86_64-linux-gnu/systemd/libsystemd-core-252.so 2070952 dyn 9 0 63a50
  0:0:473b0:473b0:r 48000:48000:e47f5:e47f5:rx 12d000:12d000:67628:67628:r 1955b0:1955b0:63b14:63b38:rw
  > libsystemd-shared-252.so libseccomp.so.2 libpam.so.0 libaudit.so.1 libkmod.so.2 libapparmor.so.1
  > libselinux.so.1 libmount.so.1 libc.so.6
libsystemd-shared-252.so /usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so 3348104 dyn 10 0 1c110
  0:0:6a0d0:6a0d0:r 6b000:6b000:1e6675:1e6675:rx 252000:252000:c1458:c1458:r 313ef0:314ef0:1cdd0:1e100:rw
  > libacl.so.1 libblkid.so.1 libcap.so.2 libcrypt.so.1 libgcrypt.so.20 libip4tc.so.2 libkmod.so.2 liblz4.so.1
  > libmount.so.1 libcrypto.so.3 libpam.so.0 libseccomp.so.2 libselinux.so.1 libzstd.so.1 liblzma.so.5
  > libm.so.6 libc.so.6 ld-linux-x86-64.so.2
agetty /usr/sbin/agetty 69112 dyn 13 6310 850
  0:0:2f18:2f18:r 3000:3000:8549:8549:rx c000:c000:2b08:2b08:r f7b0:f7b0:d20:2da0:rw
  > libc.so.6
cron /usr/sbin/cron 51776 dyn 13 3dd0 6d0
  0:0:28f8:28f8:r 3000:3000:5f45:5f45:rx 9000:9000:1bf0:1bf0:r b930:b930:7f0:15d8:rw
  > libpam.so.0 libselinux.so.1 libc.so.6
nginx /usr/sbin/nginx 1264552 dyn 13 25410 17b0
  0:0:229d8:229d8:r 23000:23000:bf471:bf471:rx e3000:e3000:37e8c:37e8c:r 11b850:11b850:18ad0:380b0:rw
  > libcrypt.so.1 libpcre2-8.so.0 libssl.so.3 libcrypto.so.3 libz.so.1 libc.so.6
rsyslogd /usr/sbin/rsyslogd 749352 dyn 13 17450 2ad0
  0:0:155c8:155c8:r 16000:16000:61509:61509:rx 78000:78000:33c14:33c14:r ac530:ac530:a0d0:b108:rw
  > libz.so.1 libm.so.6 libestr.so.0 libfastjson.so.4 libsystemd.so.0 libuuid.so.1 libc.so.6
sshd /usr/sbin/sshd 1265432 dyn 13 135e0 3890
  0:0:c278:c278:r d000:d000:ce38d:ce38d:rx dc000:dc000:542bc:542bc:r 130770:131770:3f20:80f0:rw
  > libcrypt.so.1 libwrap.so.0 libaudit.so.1 libpam.so.0 libsystemd.so.0 libselinux.so.1 libgssapi_krb5.so.2
  > libkrb5.so.3 libcom_err.so.2 libcrypto.so.3 libz.so.1 libc.so.6
"""

INTERPRETERS: Final = {
    X86_64.machine: "ld-linux-x86-64.so.2", I386_PAE.machine: "ld-linux.so.2",
    ARM64_64K.machine: "ld-linux-aarch64.so.1",
}  # fmt: skip
"""ld.so of each machine."""
_PROT = {"r": PROT_READ, "x": PROT_EXEC, "w": PROT_WRITE}


@dataclass(frozen=True, slots=True)
class Segment:
    """One PT_LOAD program header."""

    offset: int
    vaddr: int
    filesz: int
    memsz: int
    prot: int


@dataclass(frozen=True, slots=True)
class ElfImage:
    """One ELF file."""

    name: str
    path: str
    size: int
    dyn: bool
    phnum: int
    entry: int
    relro: int
    segments: tuple[Segment, ...]
    needed: tuple[str, ...]

    @property
    def load_start(self) -> int:
        """The page of the first address."""
        return self.segments[0].vaddr & -PAGE_SIZE

    @property
    def total_mapping_size(self) -> int:
        """From the first page to the last byte. Linux: fs/binfmt_elf.c, total_mapping_size()."""
        last = self.segments[-1]
        return last.vaddr + last.memsz - self.load_start

    @property
    def has_interpreter(self) -> bool:
        """Whether ld.so must load libraries for it."""
        return bool(self.needed)


def _index(table: str) -> dict[str, list[str]]:
    records: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in table.strip().splitlines():
        if not line.startswith(" "):
            lines = records[line.split(" ", 1)[0]] = []
        lines.append(line)
    return records


_RECORDS = {
    X86_64.machine: _index(ELF_IMAGES), I386_PAE.machine: _index(elf_images_i386.ELF_IMAGES),
    ARM64_64K.machine: _index(elf_images_aarch64.ELF_IMAGES),
}  # fmt: skip


def _segment(text: str) -> Segment:
    offset, vaddr, filesz, memsz, prot = text.split(":")
    return Segment(int(offset, 16), int(vaddr, 16), int(filesz, 16), int(memsz, 16), sum(_PROT[p] for p in prot))


@cache
def elf_image(name: str, machine: str = X86_64.machine) -> ElfImage:
    """The file of that name, for a machine as uname(2) names it; KeyError if there is none."""
    head, segments, *needed = _RECORDS[machine][name]
    name, path, size, kind, phnum, entry, relro = head.split()
    return ElfImage(
        name, path, int(size), kind == "dyn", int(phnum), int(entry, 16), int(relro, 16),
        tuple(map(_segment, segments.split())),
        tuple(library for line in needed for library in line.split()[1:]),
    )  # fmt: skip


def has_image(name: str) -> bool:
    """Whether the table knows a file of that name."""
    return name in _RECORDS[X86_64.machine]


@cache
def libraries(name: str, machine: str = X86_64.machine) -> tuple[ElfImage, ...]:
    """The libraries that ld.so loads for a file, in the order in which it does: breadth first, without itself."""
    found: dict[str, ElfImage] = {}
    queue = [elf_image(name, machine)]
    while queue:
        for needed in queue.pop(0).needed:
            if needed != INTERPRETERS[machine] and needed not in found:
                found[needed] = elf_image(needed, machine)
                queue.append(found[needed])
    return tuple(found.values())
