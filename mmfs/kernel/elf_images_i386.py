"""What is in the programs and libraries of a simulated file system of 32 bits: as elf_images.py has it for 64.

The geometry is that of Debian 12's packages for i386.
"""

from __future__ import annotations

from typing import Final

ELF_IMAGES: Final = """
bash /usr/bin/bash 1408088 dyn 11 22f70 1ca8
  0:0:1fa98:1fa98:r 20000:20000:d03b8:d03b8:rx f1000:f1000:5fd30:5fd30:r 151358:151358:636c:107a0:rw
  > libtinfo.so.6 libc.so.6
busybox /usr/bin/busybox 2063088 exec 8 8049b00 3cdc
  0:8048000:268:268:r 1000:8049000:183d88:183d88:rx 185000:81cd000:6c6b9:6c6b9:r 1f2324:823a324:5274:95b4:rw
cat /usr/bin/cat 42920 dyn 11 21c0 208
  0:0:e04:e04:r 1000:1000:50b8:50b8:rx 7000:7000:29c0:29c0:r 9df8:adf8:368:4b8:rw
  > libc.so.6
dash /usr/bin/dash 136916 dyn 11 27d0 9a8
  0:0:1a84:1a84:r 2000:2000:14098:14098:rx 17000:17000:870c:870c:r 20658:20658:ae8:3434:rw
  > libc.so.6
dbus-daemon /usr/bin/dbus-daemon 288376 dyn 11 8400 b08
  0:0:5634:5634:r 6000:6000:25298:25298:rx 2c000:2c000:18754:18754:r 454f8:454f8:bec:108c:rw
  > libdbus-1.so.3 libsystemd.so.0 libexpat.so.1 libselinux.so.1 libaudit.so.1 libcap-ng.so.0 libapparmor.so.1
  > libc.so.6
dd /usr/bin/dd 100364 dyn 11 4d30 1c8
  0:0:1110:1110:r 2000:2000:ef58:ef58:rx 11000:11000:5f68:5f68:r 17e38:17e38:38c:798:rw
  > libc.so.6
python3.11 /usr/bin/python3.11 6741820 exec 11 8266b00 118
  0:8048000:17de0:17de0:r 18000:8060000:2af4e8:2af4e8:rx 2c8000:8310000:2c71e0:2c71e0:r 58fee8:85d8ee8:dd7e8:101904:rw
  > libm.so.6 libz.so.1 libexpat.so.1 libc.so.6
sleep /usr/bin/sleep 38760 dyn 11 1610 1a8
  0:0:c8c:c8c:r 1000:1000:47e8:47e8:rx 6000:6000:26bc:26bc:r 8e58:9e58:2c8:41c:rw
  > libc.so.6
static /usr/bin/static 1192968 exec 8 80498e0 259c
  0:8048000:228:228:r 1000:8049000:c07d8:c07d8:rx c2000:810a000:455e8:455e8:r 107a64:8150a64:38f4:1b97f8:rw
udevadm /usr/bin/udevadm 1285536 dyn 12 d970 154b8
  0:0:9f08:9f08:r a000:a000:b9238:b9238:rx c4000:c4000:5ee58:5ee58:r 123b48:123b48:15b34:1649c:rw
  > libkmod.so.2 libacl.so.1 libblkid.so.1 libcap.so.2 libselinux.so.1 libc.so.6 ld-linux.so.2
postgres /usr/lib/postgresql/15/bin/postgres 10315932 dyn 11 11d5d0 15088
  0:0:8b298:8b298:r 8c000:8c000:552aa8:552aa8:rx 5df000:5df000:3d3eec:3d3eec:r 9b2f78:9b3f78:21a4e:40988:rw
  > libzstd.so.1 liblz4.so.1 libxml2.so.2 libpam.so.0 libssl.so.3 libcrypto.so.3 libgssapi_krb5.so.2 libz.so.1
  > libm.so.6 libldap-2.5.so.0 libicui18n.so.72 libicuuc.so.72 libsystemd.so.0 libc.so.6
systemd /usr/lib/systemd/systemd 87640 dyn 11 8400 848
  0:0:3660:3660:r 4000:4000:98e8:98e8:rx e000:e000:5f04:5f04:r 147b8:147b8:854:a20:rw
  > libsystemd-core-252.so libsystemd-shared-252.so libc.so.6
systemd-journald /usr/lib/systemd/systemd-journald 169684 dyn 11 5cc0 b08
  0:0:3e8c:3e8c:r 4000:4000:17168:17168:rx 1c000:1c000:b934:b934:r 284f8:284f8:b90:b94:rw
  > libsystemd-shared-252.so libselinux.so.1 libc.so.6
systemd-logind /usr/lib/systemd/systemd-logind 280216 dyn 12 a8b0 26c8
  0:0:5cc0:5cc0:r 6000:6000:23de8:23de8:rx 2a000:2a000:17190:17190:r 41938:42938:26e4:26e8:rw
  > libsystemd-shared-252.so libc.so.6 ld-linux.so.2
systemd-timesyncd /usr/lib/systemd/systemd-timesyncd 54736 dyn 11 3630 7a8
  0:0:1bd4:1bd4:r 2000:2000:5eb8:5eb8:rx 8000:8000:3b8c:3b8c:r c858:c858:7ac:7b0:rw
  > libsystemd-shared-252.so libm.so.6 libc.so.6
ld-linux.so.2 /usr/lib/i386-linux-gnu/ld-linux.so.2 212472 dyn 9 1b5c0 1460
  0:0:b20:b20:r 1000:1000:22d21:22d21:rx 24000:24000:d4d4:d4d4:r 31ba0:32ba0:1dbc:1eb0:rw
libacl.so.1 /usr/lib/i386-linux-gnu/libacl.so.1.1.2301 42292 dyn 9 0 204
  0:0:100c:100c:r 2000:2000:4998:4998:rx 7000:7000:1fb0:1fb0:r 9dfc:9dfc:208:21c:rw
  > libc.so.6
libapparmor.so.1 /usr/lib/i386-linux-gnu/libapparmor.so.1.8.4 75528 dyn 9 0 2d0
  0:0:2000:2000:r 2000:2000:7e68:7e68:rx a000:a000:75a4:75a4:r 11d30:12d30:4a8:4dc:rw
  > libc.so.6
libaudit.so.1 /usr/lib/i386-linux-gnu/libaudit.so.1.0.0 136512 dyn 9 0 4c8
  0:0:1e64:1e64:r 2000:2000:7348:7348:rx a000:a000:15bb8:15bb8:r 20b38:20b38:4d8:10590:rw
  > libcap-ng.so.0 libc.so.6
libblkid.so.1 /usr/lib/i386-linux-gnu/libblkid.so.1.1.0 395128 dyn 10 0 31a8
  0:0:4c8c:4c8c:r 5000:5000:381a8:381a8:rx 3e000:3e000:1e08c:1e08c:r 5ce58:5de58:338c:36b8:rw
  > libc.so.6 ld-linux.so.2
libc.so.6 /usr/lib/i386-linux-gnu/libc.so.6 2225200 dyn 12 23510 1d0c
  0:0:218b4:218b4:r 22000:22000:178fb2:178fb2:rx 19b000:19b000:7f54b:7f54b:r 21b2f4:21b2f4:2c24:c628:rw
  > ld-linux.so.2
libcap-ng.so.0 /usr/lib/i386-linux-gnu/libcap-ng.so.0.0.0 25952 dyn 10 0 23c
  0:0:db8:db8:r 1000:1000:2fa8:2fa8:rx 4000:4000:1494:1494:r 5dc4:6dc4:240:26c:rw
  > libc.so.6 ld-linux.so.2
libcap.so.2 /usr/lib/i386-linux-gnu/libcap.so.2.66 46460 dyn 11 6d30 4f0
  0:0:1930:1930:r 2000:2000:5118:5118:rx 8000:8000:262c:262c:r ab10:bb10:50c:51c:rw
  > libc.so.6
libcom_err.so.2 /usr/lib/i386-linux-gnu/libcom_err.so.2.1 13616 dyn 10 0 1cc
  0:0:b64:b64:r 1000:1000:e88:e88:rx 2000:2000:818:818:r 2e34:3e34:1d4:1f4:rw
  > libc.so.6 ld-linux.so.2
libcrypt.so.1 /usr/lib/i386-linux-gnu/libcrypt.so.1.1.0 226664 dyn 9 0 308
  0:0:bfc:bfc:r 1000:1000:196e8:196e8:rx 1b000:1b000:1afc8:1afc8:r 36cf8:36cf8:30c:85ac:rw
  > libc.so.6
libcrypto.so.3 /usr/lib/i386-linux-gnu/libcrypto.so.3 4519804 dyn 9 0 35008
  0:0:67088:67088:r 68000:68000:254c18:254c18:rx 2bd000:2bd000:15bccc:15bccc:r 418ff8:419ff8:36220:386b8:rw
  > libc.so.6
libdbus-1.so.3 /usr/lib/i386-linux-gnu/libdbus-1.so.3.32.4 394696 dyn 9 0 b88
  0:0:98b8:98b8:r a000:a000:32c98:32c98:rx 3d000:3d000:21934:21934:r 5f478:5f478:bec:d0c:rw
  > libsystemd.so.0 libc.so.6
libestr.so.0 /usr/lib/i386-linux-gnu/libestr.so.0.0.0 17660 dyn 9 0 14c
  0:0:790:790:r 1000:1000:10c8:10c8:rx 3000:3000:900:900:r 3eb4:4eb4:150:154:rw
  > libc.so.6
libexpat.so.1 /usr/lib/i386-linux-gnu/libexpat.so.1.8.10 173472 dyn 9 0 1708
  0:0:1c84:1c84:r 2000:2000:1b5f8:1b5f8:rx 1e000:1e000:a3e4:a3e4:r 288f8:298f8:1745:1750:rw
  > libc.so.6
libfastjson.so.4 /usr/lib/i386-linux-gnu/libfastjson.so.4.3.0 54960 dyn 9 0 1d0
  0:0:1780:1780:r 2000:2000:6678:6678:rx 9000:9000:30bc:30bc:r ce30:de30:350:364:rw
  > libc.so.6
libffi.so.8 /usr/lib/i386-linux-gnu/libffi.so.8.1.2 34376 dyn 9 0 1e8
  0:0:fe8:fe8:r 1000:1000:4ca8:4ca8:rx 6000:6000:11c8:11c8:r 7e18:8e18:298:518:rw
  > libc.so.6
libgcc_s.so.1 /usr/lib/i386-linux-gnu/libgcc_s.so.1 153124 dyn 9 0 128
  0:0:2088:2088:r 3000:3000:1c6ac:1c6ac:rx 20000:20000:47a0:47a0:r 24ed8:25ed8:1ec:280:rw
  > libc.so.6
libgcrypt.so.20 /usr/lib/i386-linux-gnu/libgcrypt.so.20.4.1 1090724 dyn 9 0 2648
  0:0:69e8:69e8:r 7000:7000:a58e8:a58e8:rx ad000:ad000:56d24:56d24:r 1049b8:1049b8:5588:5930:rw
  > libgpg-error.so.0 libc.so.6
libgmp.so.10 /usr/lib/i386-linux-gnu/libgmp.so.10.4.1 580424 dyn 9 0 5c8
  0:0:acd4:acd4:r b000:b000:628f8:628f8:rx 6e000:6e000:1ddd4:1ddd4:r 8ca38:8ca38:bb0:bd8:rw
  > libc.so.6
libgnutls.so.30 /usr/lib/i386-linux-gnu/libgnutls.so.30.34.3 2387092 dyn 10 0 9d30
  0:0:206e8:206e8:r 21000:21000:12e158:12e158:rx 150000:150000:ea6d0:ea6d0:r 23b2d0:23b2d0:b430:e410:rw
  > libp11-kit.so.0 libidn2.so.0 libunistring.so.2 libtasn1.so.6 libnettle.so.8 libhogweed.so.6 libgmp.so.10 libc.so.6
  > ld-linux.so.2
libgpg-error.so.0 /usr/lib/i386-linux-gnu/libgpg-error.so.0.33.1 165256 dyn 9 0 46c
  0:0:2e50:2e50:r 3000:3000:15cc8:15cc8:rx 19000:19000:e6a0:e6a0:r 27b94:28b94:490:5b8:rw
  > libc.so.6
libgssapi_krb5.so.2 /usr/lib/i386-linux-gnu/libgssapi_krb5.so.2.2 368424 dyn 9 0 aac
  0:0:6da8:6da8:r 7000:7000:36b68:36b68:rx 3e000:3e000:19780:19780:r 58554:58554:143c:1528:rw
  > libkrb5.so.3 libk5crypto.so.3 libcom_err.so.2 libkrb5support.so.0 libc.so.6
libhogweed.so.6 /usr/lib/i386-linux-gnu/libhogweed.so.6.6 300392 dyn 9 0 c68
  0:0:5a24:5a24:r 6000:6000:12158:12158:rx 19000:19000:2ec6c:2ec6c:r 48398:48398:c6c:c70:rw
  > libnettle.so.8 libgmp.so.10 libc.so.6
libicudata.so.72 /usr/lib/i386-linux-gnu/libicudata.so.72.1 31261744 dyn 8 0 ec
  0:0:284:284:r 1000:1000:150:150:rx 2000:2000:1dcde04:1dcde04:r 1dcff14:1dd0f14:f0:f4:rw
libicui18n.so.72 /usr/lib/i386-linux-gnu/libicui18n.so.72.1 3511824 dyn 9 0 8b48
  0:0:c4afc:c4afc:r c5000:c5000:1d8ac8:1d8ac8:rx 29e000:29e000:b1fbf:b1fbf:r 3504b8:3504b8:8bf0:99c8:rw
  > libicuuc.so.72 libstdc++.so.6 libm.so.6 libgcc_s.so.1 libc.so.6
libicuuc.so.72 /usr/lib/i386-linux-gnu/libicuuc.so.72.1 2119160 dyn 9 0 a988
  0:0:4a1e8:4a1e8:r 4b000:4b000:109728:109728:rx 155000:155000:a5068:a5068:r 1fa678:1fb678:a994:c658:rw
  > libicudata.so.72 libstdc++.so.6 libm.so.6 libgcc_s.so.1 libc.so.6 ld-linux.so.2
libidn2.so.0 /usr/lib/i386-linux-gnu/libidn2.so.0.3.8 206280 dyn 9 0 25c
  0:0:10bc:10bc:r 2000:2000:7248:7248:rx a000:a000:26ea0:26ea0:r 31da4:31da4:2c0:2cc:rw
  > libunistring.so.2 libc.so.6
libip4tc.so.2 /usr/lib/i386-linux-gnu/libip4tc.so.2.0.0 30296 dyn 9 0 248
  0:0:d68:d68:r 1000:1000:36f8:36f8:rx 5000:5000:1874:1874:r 6db8:7db8:370:378:rw
  > libc.so.6
libk5crypto.so.3 /usr/lib/i386-linux-gnu/libk5crypto.so.3.1 194328 dyn 9 0 868
  0:0:2364:2364:r 3000:3000:1b6a8:1b6a8:rx 1f000:1f000:ef30:ef30:r 2e798:2e798:9e8:9f0:rw
  > libkrb5support.so.0 libc.so.6
libkeyutils.so.1 /usr/lib/i386-linux-gnu/libkeyutils.so.1.10 25908 dyn 9 0 1bc
  0:0:1138:1138:r 2000:2000:1618:1618:rx 4000:4000:f88:f88:r 5e44:5e44:1c0:1c4:rw
  > libc.so.6
libkmod.so.2 /usr/lib/i386-linux-gnu/libkmod.so.2.4.0 128380 dyn 9 0 3e8
  0:0:23bc:23bc:r 3000:3000:11a98:11a98:rx 15000:15000:8de8:8de8:r 1ec18:1ec18:400:404:rw
  > libzstd.so.1 liblzma.so.5 libcrypto.so.3 libc.so.6
libkrb5.so.3 /usr/lib/i386-linux-gnu/libkrb5.so.3.3 907372 dyn 9 0 5a50
  0:0:11b50:11b50:r 12000:12000:642e8:642e8:rx 77000:77000:5e73c:5e73c:r d65b0:d65b0:6d24:6eb0:rw
  > libk5crypto.so.3 libcom_err.so.2 libkrb5support.so.0 libkeyutils.so.1 libresolv.so.2 libc.so.6
libkrb5support.so.0 /usr/lib/i386-linux-gnu/libkrb5support.so.0.1 59240 dyn 9 0 170
  0:0:2018:2018:r 3000:3000:67c8:67c8:rx a000:a000:3624:3624:r de90:ee90:340:3d0:rw
  > libc.so.6
liblber-2.5.so.0 /usr/lib/i386-linux-gnu/liblber-2.5.so.0.1.8 63008 dyn 9 0 2d4
  0:0:207c:207c:r 3000:3000:6f98:6f98:rx a000:a000:4610:4610:r ed2c:fd2c:33c:370:rw
  > libc.so.6
libldap-2.5.so.0 /usr/lib/i386-linux-gnu/libldap-2.5.so.0.1.8 420020 dyn 9 0 fac
  0:0:a838:a838:r b000:b000:3b118:3b118:rx 47000:47000:1d4b0:1d4b0:r 65054:65054:12fc:25a0:rw
  > liblber-2.5.so.0 libsasl2.so.2 libgnutls.so.30 libc.so.6
liblz4.so.1 /usr/lib/i386-linux-gnu/liblz4.so.1.9.4 153164 dyn 9 0 168
  0:0:1b30:1b30:r 2000:2000:1dca8:1dca8:rx 20000:20000:3fe8:3fe8:r 24e98:24e98:254:258:rw
  > libc.so.6
liblzma.so.5 /usr/lib/i386-linux-gnu/liblzma.so.5.4.1 218472 dyn 9 0 728
  0:0:22ac:22ac:r 3000:3000:208b8:208b8:rx 24000:24000:f98c:f98c:r 348d8:348d8:72c:730:rw
  > libc.so.6
libm.so.6 /usr/lib/i386-linux-gnu/libm.so.6 1066564 dyn 9 0 164
  0:0:ccf0:ccf0:r d000:d000:bf934:bf934:rx cd000:cd000:35f74:35f74:r 103e9c:103e9c:1b8:1c0:rw
  > libc.so.6 ld-linux.so.2
libmount.so.1 /usr/lib/i386-linux-gnu/libmount.so.1.1.0 464588 dyn 10 0 1128
  0:0:71a8:71a8:r 8000:8000:41738:41738:rx 4a000:4a000:2562c:2562c:r 6fed8:70ed8:1260:1578:rw
  > libblkid.so.1 libselinux.so.1 libc.so.6 ld-linux.so.2
libnettle.so.8 /usr/lib/i386-linux-gnu/libnettle.so.8.6 320872 dyn 9 0 f08
  0:0:79bc:79bc:r 8000:8000:2a068:2a068:rx 33000:33000:197f8:197f8:r 4d0f8:4d0f8:f0c:f10:rw
  > libc.so.6
libp11-kit.so.0 /usr/lib/i386-linux-gnu/libp11-kit.so.0.3.0 1393004 dyn 10 0 51d0
  0:0:fb14:fb14:r 10000:10000:a8c08:a8c08:rx b9000:b9000:902ec:902ec:r 149e30:14ae30:9da8:a234:rw
  > libffi.so.8 libc.so.6 ld-linux.so.2
libpam.so.0 /usr/lib/i386-linux-gnu/libpam.so.0.85.1 71020 dyn 9 0 328
  0:0:1a58:1a58:r 2000:2000:88e8:88e8:rx b000:b000:5270:5270:r 10cd8:11cd8:330:334:rw
  > libaudit.so.1 libc.so.6
libpcre2-8.so.0 /usr/lib/i386-linux-gnu/libpcre2-8.so.0.11.2 649000 dyn 9 0 1c8
  0:0:16f8:16f8:r 2000:2000:65fd8:65fd8:rx 68000:68000:34eb4:34eb4:r 9de38:9de38:390:460:rw
  > libc.so.6
libresolv.so.2 /usr/lib/i386-linux-gnu/libresolv.so.2 59240 dyn 9 0 548
  0:0:1f10:1f10:r 2000:2000:7e98:7e98:rx a000:a000:3058:3058:r dab8:eab8:688:2d2c:rw
  > libc.so.6
libsasl2.so.2 /usr/lib/i386-linux-gnu/libsasl2.so.2.0.25 120612 dyn 9 0 2f4
  0:0:1bbc:1bbc:r 2000:2000:111f8:111f8:rx 14000:14000:88e0:88e0:r 1cd0c:1dd0c:4b4:51c:rw
  > libc.so.6
libseccomp.so.2 /usr/lib/i386-linux-gnu/libseccomp.so.2.5.4 132656 dyn 9 0 5c8
  0:0:eb4:eb4:r 1000:1000:de38:de38:rx f000:f000:fcf8:fcf8:r 1fa38:1fa38:698:6b0:rw
  > libc.so.6
libselinux.so.1 /usr/lib/i386-linux-gnu/libselinux.so.1 198140 dyn 10 0 598
  0:0:49fc:49fc:r 5000:5000:1c0a8:1c0a8:rx 22000:22000:d1b0:d1b0:r 2fa68:30a68:5d0:22a8:rw
  > libpcre2-8.so.0 libc.so.6 ld-linux.so.2
libssl.so.3 /usr/lib/i386-linux-gnu/libssl.so.3 721444 dyn 9 0 58c8
  0:0:10c30:10c30:r 11000:11000:5ee78:5ee78:rx 70000:70000:36d40:36d40:r a7738:a7738:8588:85bc:rw
  > libcrypto.so.3 libc.so.6
libstdc++.so.6 /usr/lib/i386-linux-gnu/libstdc++.so.6.0.30 2213960 dyn 10 0 567c
  0:0:77bec:77bec:r 78000:78000:11640c:11640c:rx 18f000:18f000:86184:86184:r 215984:216984:6794:8c6c:rw
  > libm.so.6 libc.so.6 ld-linux.so.2 libgcc_s.so.1
libsystemd.so.0 /usr/lib/i386-linux-gnu/libsystemd.so.0.35.0 875512 dyn 10 0 5868
  0:0:d6e0:d6e0:r e000:e000:84388:84388:rx 93000:93000:3ba40:3ba40:r cf798:cf798:5e28:67c0:rw
  > libcap.so.2 libgcrypt.so.20 liblzma.so.5 libzstd.so.1 liblz4.so.1 libc.so.6 ld-linux.so.2
libtasn1.so.6 /usr/lib/i386-linux-gnu/libtasn1.so.6.6.3 87404 dyn 9 0 748
  0:0:16ec:16ec:r 2000:2000:bfa8:bfa8:rx e000:e000:5f8c:5f8c:r 148b8:148b8:750:94c:rw
  > libc.so.6
libtinfo.so.6 /usr/lib/i386-linux-gnu/libtinfo.so.6.4 174232 dyn 9 0 1be8
  0:0:6bd0:6bd0:r 7000:7000:10b38:10b38:rx 18000:18000:fca4:fca4:r 28418:28418:1e98:229c:rw
  > libc.so.6
libunistring.so.2 /usr/lib/i386-linux-gnu/libunistring.so.2.2.0 1783188 dyn 9 0 2128
  0:0:af2c:af2c:r b000:b000:40488:40488:rx 4c000:4c000:164198:164198:r 1b0ed8:1b1ed8:218c:25ec:rw
  > libc.so.6
libuuid.so.1 /usr/lib/i386-linux-gnu/libuuid.so.1.3.0 34192 dyn 10 0 21c
  0:0:e68:e68:r 1000:1000:4918:4918:rx 6000:6000:11bc:11bc:r 7de4:8de4:220:240:rw
  > libc.so.6 ld-linux.so.2
libwrap.so.0 /usr/lib/i386-linux-gnu/libwrap.so.0.7.6 42892 dyn 9 0 304
  0:0:185c:185c:r 2000:2000:4398:4398:rx 7000:7000:2a28:2a28:r 9cfc:acfc:598:a28:rw
  > libc.so.6
libxml2.so.2 /usr/lib/i386-linux-gnu/libxml2.so.2.9.14 1887292 dyn 9 0 466c
  0:0:1c7f8:1c7f8:r 1d000:1d000:11f738:11f738:rx 13d000:13d000:8a670:8a670:r 1c7994:1c8994:4d44:5a48:rw
  > libicuuc.so.72 libz.so.1 liblzma.so.5 libm.so.6 libc.so.6
libz.so.1 /usr/lib/i386-linux-gnu/libz.so.1.2.13 112220 dyn 9 0 208
  0:0:18bc:18bc:r 2000:2000:11044:11044:rx 14000:14000:690c:690c:r 1adf8:1bdf8:2cc:2d0:rw
  > libc.so.6
libzstd.so.1 /usr/lib/i386-linux-gnu/libzstd.so.1.5.4 746804 dyn 9 0 408
  0:0:2f38:2f38:r 3000:3000:96a88:96a88:rx 9a000:9a000:1b45c:1b45c:r b5bf8:b6bf8:40c:42c:rw
  > libc.so.6
libsystemd-core-252.so /usr/lib/i386-linux-gnu/systemd/libsystemd-core-252.so 1971980 dyn 9 0 32b08
  0:0:25150:25150:r 26000:26000:eeb18:eeb18:rx 115000:115000:994ec:994ec:r 1ae4f8:1af4f8:32bf0:32c10:rw
  > libsystemd-shared-252.so libseccomp.so.2 libpam.so.0 libaudit.so.1 libkmod.so.2 libapparmor.so.1 libselinux.so.1
  > libmount.so.1 libc.so.6
libsystemd-shared-252.so /usr/lib/i386-linux-gnu/systemd/libsystemd-shared-252.so 3657348 dyn 10 0 ece8
  0:0:44cfc:44cfc:r 45000:45000:201df8:201df8:rx 247000:247000:125f48:125f48:r 36d318:36d318:f4ac:10398:rw
  > libacl.so.1 libblkid.so.1 libcap.so.2 libcrypt.so.1 libgcrypt.so.20 libip4tc.so.2 libkmod.so.2 liblz4.so.1
  > libmount.so.1 libcrypto.so.3 libpam.so.0 libseccomp.so.2 libselinux.so.1 libzstd.so.1 liblzma.so.5 libm.so.6
  > libc.so.6 ld-linux.so.2
agetty /usr/sbin/agetty 67736 dyn 11 5490 468
  0:0:1a5c:1a5c:r 2000:2000:8f88:8f88:rx b000:b000:3cf0:3cf0:r fb98:fb98:6e8:2710:rw
  > libc.so.6
cron /usr/sbin/cron 54992 dyn 11 2e40 388
  0:0:1848:1848:r 2000:2000:6418:6418:rx 9000:9000:3550:3550:r cc78:dc78:444:111c:rw
  > libpam.so.0 libselinux.so.1 libc.so.6
nginx /usr/sbin/nginx 1306388 dyn 11 154e0 c08
  0:0:12c90:12c90:r 13000:13000:c2458:c2458:rx d6000:d6000:59798:59798:r 1303f8:1303f8:e588:290e8:rw
  > libcrypt.so.1 libpcre2-8.so.0 libssl.so.3 libcrypto.so.3 libz.so.1 libc.so.6
rsyslogd /usr/sbin/rsyslogd 828208 dyn 11 e490 15e8
  0:0:cc60:cc60:r d000:d000:67f88:67f88:rx 75000:75000:4e460:4e460:r c3a18:c4a18:6300:6d08:rw
  > libz.so.1 libm.so.6 libestr.so.0 libfastjson.so.4 libsystemd.so.0 libuuid.so.1 libc.so.6
sshd /usr/sbin/sshd 1239420 dyn 11 d6f0 2408
  0:0:6790:6790:r 7000:7000:a9df8:a9df8:rx b1000:b1000:7a0bc:7a0bc:r 12bbf8:12cbf8:27f0:5618:rw
  > libcrypt.so.1 libwrap.so.0 libaudit.so.1 libpam.so.0 libsystemd.so.0 libselinux.so.1 libgssapi_krb5.so.2
  > libkrb5.so.3 libcom_err.so.2 libcrypto.so.3 libz.so.1 libc.so.6
"""
