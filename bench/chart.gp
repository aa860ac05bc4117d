# gnuplot -e "data='…'; out='…'; heading='…'" chart.gp
# Lines of data: "peer" median min max rss
set terminal svg size 960,420 font "sans-serif,13" background "white"
set output out
set multiplot layout 1,2 title heading font "sans-serif,14"
set style fill solid 0.85 noborder
set boxwidth 0.7
set border 3 lc rgb "#888888"
set tics nomirror
set grid ytics lc rgb "#dddddd"
set xtics out rotate by 30 right offset 0,-0.2 noenhanced tc rgb "#222222"
set ytics tc rgb "#222222"
set bmargin 5
set yrange [0:*]
set xrange [-0.7:*]
unset key
# Of weft, or not.
colour(name) = name[1:4] eq "weft" ? 0xc2410c : 0x64748b
set title "wall seconds (median; bars: fastest and slowest run)"
plot data using 0:2:(colour(stringcolumn(1))):xtic(1) with boxes lc rgb variable, \
     data using 0:2:3:4 with yerrorbars lc rgb "#111111" pt 0 lw 1.5, \
     data using 0:4:(sprintf("%.2f", column(2))) with labels offset 0,0.7 font "sans-serif,11"
set title "peak memory, MB"
plot data using 0:5:(colour(stringcolumn(1))):xtic(1) with boxes lc rgb variable, \
     data using 0:5:(sprintf("%.1f", column(5))) with labels offset 0,0.7 font "sans-serif,11"
unset multiplot
